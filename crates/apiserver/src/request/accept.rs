//! Content negotiation: in which form the client wants its answer.

use http::HeaderMap;
use http::header::ACCEPT;

use crate::registry::discovery::AggregatedVersion;

/// How an answer is encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Representation {
    /// JSON, indented if the client is a person's browser or asked with `pretty`.
    Json,
    /// YAML.
    Yaml,
}

impl Representation {
    /// The media type.
    pub(crate) fn media_type(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Yaml => "application/yaml",
        }
    }
}

/// What an answer is turned into before it is encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    /// The object itself.
    Object,
    /// A `meta.k8s.io` Table, of the version named.
    Table(&'static str),
    /// `PartialObjectMetadata` or its list, of the version named.
    Metadata(&'static str),
    /// An `APIGroupDiscoveryList`.
    Discovery(AggregatedVersion),
}

/// The outcome of negotiation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Accept {
    /// How to encode.
    pub(crate) representation: Representation,
    /// What to encode.
    pub(crate) shape: Shape,
}

impl Accept {
    /// Plain JSON.
    pub(crate) const JSON: Self = Self { representation: Representation::Json, shape: Shape::Object };

    /// Takes the first alternative of the `Accept` header that can be served; `None` if there is none. `shapes` says which
    /// shapes this endpoint can give besides the object itself.
    pub(crate) fn negotiate(headers: &HeaderMap, shapes: impl Fn(Shape) -> bool) -> Option<Self> {
        let mut values = headers.get_all(ACCEPT).iter().peekable();
        if values.peek().is_none() {
            return Some(Self::JSON);
        }
        values
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .find_map(|alternative| Self::alternative(alternative, &shapes))
    }

    fn alternative(text: &str, shapes: &impl Fn(Shape) -> bool) -> Option<Self> {
        let mut parts = text.split(';').map(str::trim);
        let representation = match parts.next()? {
            "application/json" | "*/*" | "application/*" => Representation::Json,
            "application/yaml" => Representation::Yaml,
            _ => return None,
        };
        let (mut form, mut version, mut group) = ("", "", "");
        for part in parts {
            match part.split_once('=') {
                Some(("as", value)) => form = value,
                Some(("v", value)) => version = value,
                Some(("g", value)) => group = value,
                // A stream of frames is what watches are anyway; quality is the order in which they are listed.
                _ => {}
            }
        }
        let shape = match (form, group, version) {
            ("", _, _) => Shape::Object,
            ("Table", "meta.k8s.io", "v1") => Shape::Table("v1"),
            ("Table", "meta.k8s.io", "v1beta1") => Shape::Table("v1beta1"),
            ("PartialObjectMetadata" | "PartialObjectMetadataList", "meta.k8s.io", "v1") => {
                Shape::Metadata("v1")
            }
            ("PartialObjectMetadata" | "PartialObjectMetadataList", "meta.k8s.io", "v1beta1") => {
                Shape::Metadata("v1beta1")
            }
            ("APIGroupDiscoveryList", "apidiscovery.k8s.io", "v2") => Shape::Discovery(AggregatedVersion::V2),
            ("APIGroupDiscoveryList", "apidiscovery.k8s.io", "v2beta1") => {
                Shape::Discovery(AggregatedVersion::V2Beta1)
            }
            _ => return None,
        };
        (shape == Shape::Object || shapes(shape)).then_some(Self { representation, shape })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn negotiate(accept: &str) -> Option<Shape> {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, accept.parse().unwrap());
        let object_shapes = |shape| !matches!(shape, Shape::Discovery(_));
        Accept::negotiate(&headers, object_shapes).map(|accept| accept.shape)
    }

    #[test]
    fn what_clients_send() {
        let kubectl = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1beta1;\
                       g=meta.k8s.io,application/json";
        assert_eq!(negotiate(kubectl), Some(Shape::Table("v1")));
        assert_eq!(negotiate("application/vnd.kubernetes.protobuf,application/json"), Some(Shape::Object));
        assert_eq!(negotiate("application/vnd.kubernetes.protobuf"), None);
        assert_eq!(
            negotiate("application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"),
            Some(Shape::Metadata("v1"))
        );
        assert_eq!(
            negotiate(
                "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json"
            ),
            Some(Shape::Object)
        );
        assert_eq!(negotiate("application/json, */*"), Some(Shape::Object));
        assert_eq!(negotiate("application/json;stream=watch"), Some(Shape::Object));
    }
}
