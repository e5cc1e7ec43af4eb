//! Operations: plan, journal, run, resume, undo; controller harness and leader election.
