//! Bodies in little room. Resources of one kind are much alike: of each is kept what is different from the first of its kind and
//! shape that came (LZ4 with that one as its dictionary). A fabric's port shrinks to a fifth, and is whole again within a
//! microsecond.

use std::{
    collections::HashMap,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    sync::{Arc, PoisonError, RwLock},
};

use bytes::Bytes;
use lz4_flex::block::{compress_prepend_size_with_dict, decompress_size_prepended_with_dict};
use serde_json::Value;

use super::kind::KindIndex;

/// Bodies that are smaller are kept as they are.
const LEAST: usize = 200;
/// Longest body that others are compared with, and most such bodies: what agents serve is theirs to choose.
const LONGEST_SAMPLE: usize = 4_096;
const MOST_SAMPLES: usize = 1_024;

/// A body as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Packed {
    bytes: Arc<[u8]>,
    /// What it was compared with, by number from 1; 0 for a body that is kept as it is.
    sample: u16,
}

/// What tells apart bodies that have little in common: the kind, and which properties there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Shape(KindIndex, u64);

impl Shape {
    /// The shape of a body.
    pub(super) fn of(kind: KindIndex, body: &Value) -> Self {
        let mut hasher = DefaultHasher::new();
        for name in body.as_object().into_iter().flat_map(serde_json::Map::keys) {
            name.hash(&mut hasher);
        }
        Self(kind, hasher.finish())
    }
}

#[derive(Debug, Default)]
struct Known {
    numbers: HashMap<Shape, u16>,
    samples: Vec<Arc<[u8]>>,
}

/// Bodies that others are compared with.
#[derive(Debug, Default)]
pub(super) struct Samples(RwLock<Known>);

impl Samples {
    /// Packs a body. The first of its shape becomes a sample.
    pub(super) fn pack(&self, shape: Shape, body: &Arc<[u8]>) -> Packed {
        let number = if body.len() < LEAST { 0 } else { self.number(shape, body) };
        self.pack_like(number, body)
    }

    /// Packs a body that takes the place of another one.
    pub(super) fn pack_again(&self, before: &Packed, body: &Arc<[u8]>) -> Packed {
        self.pack_like(before.sample, body)
    }

    fn pack_like(&self, number: u16, body: &Arc<[u8]>) -> Packed {
        let packed = self.sample(number).map(|sample| compress_prepend_size_with_dict(body, &sample));
        match packed.filter(|packed| packed.len() < body.len() / 4 * 3) {
            Some(packed) => Packed { bytes: packed.into(), sample: number },
            None => Packed { bytes: body.clone(), sample: 0 },
        }
    }

    /// The body.
    pub(super) fn unpack(&self, packed: &Packed) -> Bytes {
        let Some(sample) = self.sample(packed.sample) else { return Bytes::from_owner(packed.bytes.clone()) };
        match decompress_size_prepended_with_dict(&packed.bytes, &sample) {
            Ok(body) => body.into(),
            Err(error) => {
                // Cannot be: it was packed with the same sample.
                tracing::error!(%error, "a body cannot be unpacked");
                Bytes::new()
            }
        }
    }

    /// The body, shared.
    pub(super) fn unpack_shared(&self, packed: &Packed) -> Arc<[u8]> {
        if packed.sample == 0 { packed.bytes.clone() } else { Arc::from(&self.unpack(packed)[..]) }
    }

    fn sample(&self, number: u16) -> Option<Arc<[u8]>> {
        let position = usize::from(number).checked_sub(1)?;
        self.0.read().unwrap_or_else(PoisonError::into_inner).samples.get(position).cloned()
    }

    /// Number of the sample of a shape; 0 if there is none.
    fn number(&self, shape: Shape, body: &Arc<[u8]>) -> u16 {
        if let Some(number) = self.0.read().unwrap_or_else(PoisonError::into_inner).numbers.get(&shape) {
            return *number;
        }
        let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if body.len() > LONGEST_SAMPLE || known.samples.len() >= MOST_SAMPLES {
            return 0;
        }
        known.samples.push(body.clone());
        let number = u16::try_from(known.samples.len()).unwrap_or_default();
        known.numbers.insert(shape, number);
        number
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn port(number: u32) -> Value {
        json!({"@odata.id": format!("/redfish/v1/Fabrics/HSN/Switches/g{number}s7/Ports/isl{number}"),
            "@odata.type": "#Port.v1_18_0.Port", "Id": format!("isl{number}"), "Name": format!("isl{number}"),
            "PortProtocol": "Ethernet", "PortType": "InterswitchPort", "LinkState": "Enabled", "LinkStatus": "LinkUp",
            "InterfaceEnabled": true, "CurrentSpeedGbps": 200.0, "Status": {"State": "Enabled", "Health": "OK"},
            "Links": {"ConnectedSwitches": [{"@odata.id": format!("/redfish/v1/Fabrics/HSN/Switches/g{}s1", number * 7)}]}})
    }

    #[test]
    fn bodies_of_a_kind_take_a_third_of_their_room_at_most() {
        let samples = Samples::default();
        let (mut whole, mut packed) = (0, 0);
        for number in 0..100 {
            let value = port(number);
            let body: Arc<[u8]> = value.to_string().into_bytes().into();
            let kept = samples.pack(Shape::of(3, &value), &body);
            assert_eq!(samples.unpack(&kept), &body[..]);
            assert_eq!(samples.pack(Shape::of(3, &value), &body), kept, "the same again");
            (whole, packed) = (whole + body.len(), packed + kept.bytes.len());
        }
        assert!(packed * 3 < whole, "{packed} of {whole}");
    }

    #[test]
    fn what_agents_send_cannot_fill_memory_with_samples() {
        let samples = Samples::default();
        for number in 0..2 * MOST_SAMPLES {
            let mut value = port(1);
            value[format!("Property{number}")] = json!("x".repeat(if number % 2 == 0 { 10 } else { 5_000 }));
            let body: Arc<[u8]> = value.to_string().into_bytes().into();
            let kept = samples.pack(Shape::of(1, &value), &body);
            assert_eq!(samples.unpack(&kept), &body[..]);
        }
        let known = samples.0.read().unwrap();
        assert!(known.samples.len() <= MOST_SAMPLES && known.numbers.len() <= MOST_SAMPLES);
        assert!(known.samples.iter().all(|sample| sample.len() <= LONGEST_SAMPLE));
    }

    proptest! {
        /// Whatever is packed comes back.
        #[test]
        fn bodies_come_back(bodies in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..2_000), 1..8), repeated in 1_usize..4) {
            let samples = Samples::default();
            let shape = Shape::of(1, &Value::Null);
            for body in bodies {
                let body: Arc<[u8]> = body.repeat(repeated).into();
                let kept = samples.pack(shape, &body);
                prop_assert_eq!(&samples.unpack(&kept)[..], &body[..]);
                prop_assert_eq!(&samples.unpack_shared(&samples.pack_again(&kept, &body))[..], &body[..]);
            }
        }
    }
}
