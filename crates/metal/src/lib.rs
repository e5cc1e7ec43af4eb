//! Bare-metal hosts: enrolment, inspection, power, provisioning.
