//! Tests of the embedded store through its public contract, on real files.

mod basics;
