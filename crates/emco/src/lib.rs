//! Composite applications over many clusters: life cycle, placement, logical clouds, networks and status, as EMCO (Edge Multi-Cluster
//! Orchestrator, release 22.09) has them.
//!
//! | module | what it does |
//! |---|---|
//! | [`builtin`] | gac, ovnaction, ncm: what EMCO has as services of their own |
//! | [`model`] | histories of states, refusals, clusters as placement sees them; deployments gathered from documents |
//! | [`plan`] | pure: state machines, placement, contexts, the steps of operations |
//! | [`status`] | pure: status queries |
//! | [`library`] | documents, as watches keep copies of them |
//! | [`seams`] | what is needed of others: controllers, charts, room on clusters |
//! | [`charts`] | charts by the renderer, as the steps need them |
//! | [`steps`] | effects, as steps of the engine |
//! | [`controller`] | life-cycle operations, groups, logical clouds and clusters as objects |
//! | [`clusters`] | onboarding, reachability, ways to clusters |
//! | [`logical_cloud`] | what logical clouds are made of |

pub mod builtin;
pub mod charts;
pub mod clusters;
pub mod controller;
pub mod library;
pub mod logical_cloud;
pub mod model;
pub mod plan;
pub mod seams;
pub mod status;
pub mod steps;
