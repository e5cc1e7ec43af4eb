//! Every Drystone resource kind, as data.
