//! Messages of the registry `Composition`.

use super::{Message, messages};

messages! { COMPOSITION, "Composition.1.1" {
    /// A resource block is in a composition already.
    resource_block_in_use(uri)
        => "ResourceBlockInUse", Warning, "The resource block at %1 is in use.", "Remove it from its composition, or choose another one.";
    /// A resource block is reserved by somebody else.
    specified_resource_already_reserved(uri, reservation)
        => "SpecifiedResourceAlreadyReserved", Warning, "The resource at %1 is reserved by %2.", "Wait for the reservation to end, or choose another resource.";
    /// Nothing fits a constrained request.
    no_resource_match(kind)
        => "NoResourceMatch", Warning, "No free resource of the kind %1 fits the request.", "Ask for less, or wait until resources become free.";
    /// Blocks of a request are in different zones.
    incompatible_zone()
        => "IncompatibleZone", Warning, "The resources are not in one zone.", "Choose resources of one zone.";
    /// The state of a block changed.
    resource_block_composition_state_changed(block)
        => "ResourceBlockCompositionStateChanged", OK, "The composition state of the resource block %1 changed.", "None.";
    /// The blocks of a zone changed.
    resource_zone_membership_changed(zone)
        => "ResourceZoneMembershipChanged", OK, "The resource blocks of the zone %1 changed.", "None.";
}}
