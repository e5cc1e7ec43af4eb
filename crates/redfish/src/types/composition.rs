//! Resource blocks: what a system can be composed of.

use super::{Link, Status, part, resource};

resource! {
    /// Hardware that is attached to a system as a whole.
    ResourceBlock, "#ResourceBlock.v1_4_3.ResourceBlock" {
        /// `Processor`, `Memory`, `Storage`, `ComputerSystem` …
        resource_block_type: Vec<String>,
        /// `Free`, `Active` or `Unassigned`.
        pool: Option<String>,
        /// Whether it is in use.
        composition_status: CompositionStatus,
        /// Processors in it.
        processors: Vec<Link>,
        /// Memory in it.
        memory: Vec<Link>,
        /// Drives in it.
        drives: Vec<Link>,
        /// Links.
        links: ResourceBlockLinks,
        /// State and health.
        status: Status,
    }
}

part! {
    /// Whether a block is in use.
    CompositionStatus {
        /// `Unused`, `Composing`, `Composed`, `ComposedAndAvailable`, `Failed` or `Unavailable`.
        composition_state: Option<String>,
        /// Whether somebody has reserved it.
        reserved: Option<bool>,
        /// Whether several systems may use it at once.
        sharing_capable: Option<bool>,
        /// Most compositions that it can be in.
        max_compositions: Option<u32>,
        /// Compositions that it is in.
        number_of_compositions: Option<u32>,
    }
}

part! {
    /// Links of a block.
    ResourceBlockLinks {
        /// Systems that use it.
        computer_systems: Vec<Link>,
        /// Chassis that hold it.
        chassis: Vec<Link>,
        /// Zones of resource blocks that it is in.
        zones: Vec<Link>,
    }
}
