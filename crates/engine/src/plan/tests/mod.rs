//! Tests of the pure half: what a plan must be, what the decision guarantees, what the estimate says.

mod decision;
mod estimate;
mod model;
mod validity;
