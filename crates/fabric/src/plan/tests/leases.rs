//! Leases of address blocks.

use std::collections::BTreeSet;

use drystone_api::{AddressPoolPurpose, AddressPoolSpec, AddressPoolStatus};
use proptest::prelude::*;

use crate::plan::addresses;

proptest! {
    #[test]
    fn leases_never_overlap(steps in prop::collection::vec((0_u8..2, 0_usize..8, 1_usize..4), 1..60)) {
        let spec = AddressPoolSpec {
            purpose: AddressPoolPurpose::Pod,
            ranges: vec!["10.42.0.0/20".parse().expect("valid"), "10.60.0.0/22".parse().expect("valid")],
            block_prefix_length: 24,
            reserved: vec!["10.42.3.7/32".parse().expect("valid")],
            ..Default::default()
        };
        let mut status = AddressPoolStatus::default();
        for (kind, holder, count) in steps {
            let holder = format!("h{holder}");
            if kind == 0 {
                match addresses::lease(&spec, &status, &holder, count) {
                    Ok((next, blocks)) => {
                        prop_assert!(blocks.len() >= count);
                        let again = addresses::lease(&spec, &next, &holder, count).expect("it has them");
                        prop_assert_eq!(&again.1, &blocks, "a repeated lease must not change anything");
                        status = next;
                    }
                    Err(addresses::LeaseError::Exhausted { .. }) => {}
                    Err(error) => prop_assert!(false, "{}", error),
                }
            } else {
                status = addresses::release(&spec, &status, &holder);
            }
            let blocks: Vec<_> = status.leases.iter().flat_map(|lease| lease.blocks.iter()).collect();
            prop_assert_eq!(blocks.iter().collect::<BTreeSet<_>>().len(), blocks.len());
            prop_assert_eq!(status.leased_blocks, blocks.len() as u64);
            prop_assert!(blocks.iter().all(|block| block.to_string() != "10.42.3.0/24"), "reserved");
        }
    }
}

#[test]
fn a_pool_that_makes_no_sense_is_refused() {
    let spec = AddressPoolSpec {
        ranges: vec!["10.0.0.0/30".parse().expect("valid")],
        block_prefix_length: 24,
        ..Default::default()
    };
    let error = addresses::validate(&spec).expect_err("too small");
    assert!(error.to_string().starts_with("spec.ranges[0]: 10.0.0.0/30 is smaller"), "{error}");
}
