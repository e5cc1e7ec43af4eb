//! Where in a schema the structural check is, and what it has found.

use serde_json::Value;

use crate::machinery::field_error::FieldError;

/// What has been found so far.
pub(super) struct Context {
    errors: Vec<FieldError>,
    limit: usize,
}

impl Context {
    pub(super) fn new(limit: usize) -> Self {
        Self { errors: Vec::new(), limit }
    }

    pub(super) fn push(&mut self, error: FieldError) {
        if !self.is_full() {
            self.errors.push(error);
        }
    }

    pub(super) fn is_full(&self) -> bool {
        self.errors.len() >= self.limit
    }

    pub(super) fn into_errors(self) -> Vec<FieldError> {
        self.errors
    }
}

/// The position of a schema in the tree of schemas.
#[derive(Clone, Copy)]
pub(super) enum Place<'a> {
    /// The object itself.
    Root,
    /// A field of an object.
    Property,
    /// A value of a map.
    MapValue,
    /// An entry of a list.
    Item,
    /// Inside `allOf`, `anyOf`, `oneOf` or `not`.
    Logic {
        /// The same place outside of the logic: null where nothing is specified.
        outside: &'a Value,
        /// Whether `type` may be given: the alternatives of an int-or-string.
        typed: bool,
        /// Whether this is the alternative itself, not something below it.
        top: bool,
    },
}

impl<'a> Place<'a> {
    pub(super) fn is_logic(self) -> bool {
        matches!(self, Self::Logic { .. })
    }

    /// Whether `type` may be given although this is inside a logical alternative.
    pub(super) fn allows_type(self) -> bool {
        matches!(self, Self::Logic { typed: true, top: true, .. })
    }

    /// What to say when the type is missing; `None` where it may be.
    pub(super) fn type_required(self) -> Option<&'static str> {
        match self {
            // The root has a message of its own.
            Self::Root | Self::Logic { .. } => None,
            Self::Property | Self::MapValue => Some("must not be empty for specified object fields"),
            Self::Item => Some("must not be empty for specified array items"),
        }
    }

    /// The place of the property `name`; reports one that is only named inside of the logic.
    pub(super) fn property(self, name: &str, path: &str, context: &mut Context) -> Place<'a> {
        let Self::Logic { outside, .. } = self else { return Place::Property };
        let property = &outside["properties"][name];
        let described = if property.is_null() { &outside["additionalProperties"] } else { property };
        if described.is_null() && !open(outside) {
            let message = "must be specified outside of the logical alternatives to be structural";
            context.push(FieldError::required(path, message));
        }
        Place::Logic { outside: described, typed: false, top: false }
    }

    /// The place of a map's values.
    pub(super) fn additional(self) -> Place<'a> {
        match self {
            Self::Logic { outside, .. } => {
                Place::Logic { outside: &outside["additionalProperties"], typed: false, top: false }
            }
            _ => Place::MapValue,
        }
    }

    /// The place of a list's entries; reports items that are only named inside of the logic.
    pub(super) fn items(self, path: &str, context: &mut Context) -> Place<'a> {
        let Self::Logic { outside, .. } = self else { return Place::Item };
        let items = &outside["items"];
        if items.is_null() && !open(outside) {
            let message = "must be specified outside of the logical alternatives to be structural";
            context.push(FieldError::required(path, message));
        }
        Place::Logic { outside: items, typed: false, top: false }
    }

    /// The place of an alternative under `keyword` of `schema`, which is here.
    pub(super) fn logic(self, schema: &'a Value, keyword: &str) -> Place<'a> {
        let outside = match self {
            Self::Logic { outside, .. } => outside,
            _ => schema,
        };
        // `anyOf: [{type: integer}, {type: string}]` is how an int-or-string is written for other readers.
        let typed = keyword == "anyOf" && outside["x-kubernetes-int-or-string"] == true;
        Place::Logic { outside, typed, top: true }
    }
}

/// Whether fields need not be specified outside: everything is preserved there anyway, or the lack has been reported.
fn open(outside: &Value) -> bool {
    outside.is_null() || outside["x-kubernetes-preserve-unknown-fields"] == true
}
