//! From a template to what is to be done: a pure translation.
//!
//! [`realize`] evaluates a template, in the order in which its resources need each other, into a tree of stacks with every id, address and
//! attribute in it, beside the tree that was there before. What is the same stays as it is; what differs is changed or replaced, as its
//! type allows; what is broken is replaced; what is not wanted any more leaves. The result says of each resource what is
//! still to be done, so that whoever carries it out can stop at any time and go on later ([`waves`]).

mod catalogue;
mod groups;
mod realize;
mod scope;
mod servers;
mod settle;
mod types;
mod waves;

pub(crate) use catalogue::router;
pub(super) use catalogue::{Addresses, Catalogue, Hosts};
pub(super) use groups::{adjusted, is_group};
pub(super) use realize::{Realized, World, realize};
pub(super) use types::{is_known, known_types};
pub(super) use waves::{Task, Wave, finish, next, settle_states, state_action};
