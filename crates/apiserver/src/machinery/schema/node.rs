//! The parsed form of a schema: nodes in an arena, and a handle to walk them.

use std::sync::OnceLock;

use regex::Regex;
use serde_json::Value;

/// Position of a node in its arena.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NodeId(pub(super) u32);

/// All nodes of one or more schemas.
#[derive(Debug, Default)]
pub(super) struct Arena {
    pub(super) nodes: Vec<Node>,
}

/// JSON type a value must have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ValueType {
    /// A JSON object.
    Object,
    /// A JSON array.
    Array,
    /// A string.
    String,
    /// A number without fraction.
    Integer,
    /// Any number.
    Number,
    /// `true` or `false`.
    Boolean,
}

impl ValueType {
    /// The name that schemas and messages use.
    pub fn name(self) -> &'static str {
        match self {
            Self::Object => "object",
            Self::Array => "array",
            Self::String => "string",
            Self::Integer => "integer",
            Self::Number => "number",
            Self::Boolean => "boolean",
        }
    }
}

/// What fields an object may have beyond its properties.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Additional {
    /// None: others are pruned.
    #[default]
    None,
    /// Any, of any shape.
    Any,
    /// Any, of the shape of the child node [`SchemaNode::additional_node`]: the object is a map.
    Map,
}

/// How the entries of a list relate to each other, for merging: `x-kubernetes-list-type`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ListType {
    /// The list is one value.
    #[default]
    Atomic,
    /// The entries are distinct values.
    Set,
    /// The entries are objects, told apart by [`Node::list_map_keys`].
    Map,
}

/// How a strategic merge patch treats a field: `x-kubernetes-patch-strategy` and `x-kubernetes-patch-merge-key`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PatchStrategy {
    /// Lists are merged instead of replaced.
    pub merge: bool,
    /// Fields that the patch does not list under `$retainKeys` are dropped.
    pub retain_keys: bool,
    /// Objects are replaced instead of merged.
    pub replace: bool,
    /// The field by which entries of a merged list of objects are told apart.
    pub merge_key: Option<Box<str>>,
}

#[derive(Clone, Debug)]
pub(super) struct Property {
    pub(super) name: Box<str>,
    pub(super) node: NodeId,
    pub(super) patch: PatchStrategy,
}

/// One schema of the tree, without its children.
#[derive(Clone, Debug, Default)]
pub struct Node {
    /// Required type; none where anything goes, or where [`Node::int_or_string`] says it.
    pub value_type: Option<ValueType>,
    /// Null is a value.
    pub nullable: bool,
    /// An integer or a string: `x-kubernetes-int-or-string`.
    pub int_or_string: bool,
    /// Unknown fields are kept: `x-kubernetes-preserve-unknown-fields`.
    pub preserve_unknown: bool,
    /// The value is an object of its own with `apiVersion`, `kind` and `metadata`: `x-kubernetes-embedded-resource`.
    pub embedded_resource: bool,
    /// For server-side apply the object is one value: `x-kubernetes-map-type: atomic`.
    pub atomic: bool,
    /// `x-kubernetes-list-type`.
    pub list_type: ListType,
    /// `x-kubernetes-list-map-keys`.
    pub list_map_keys: Box<[Box<str>]>,
    /// What takes the place of a missing value.
    pub default: Option<Box<Value>>,
    /// Further fields of an object.
    pub additional: Additional,
    pub(super) properties: Box<[Property]>,
    pub(super) required: Box<[Box<str>]>,
    pub(super) additional_node: Option<NodeId>,
    pub(super) items: Option<NodeId>,
    pub(super) checks: Option<Box<Checks>>,
}

/// Conditions on a value beyond its type.
#[derive(Clone, Debug, Default)]
pub(super) struct Checks {
    pub(super) format: Option<Box<str>>,
    pub(super) enumeration: Option<Box<[Value]>>,
    pub(super) minimum: Option<(f64, bool)>,
    pub(super) maximum: Option<(f64, bool)>,
    pub(super) multiple_of: Option<f64>,
    pub(super) min_length: Option<usize>,
    pub(super) max_length: Option<usize>,
    pub(super) min_items: Option<usize>,
    pub(super) max_items: Option<usize>,
    pub(super) min_properties: Option<usize>,
    pub(super) max_properties: Option<usize>,
    pub(super) unique_items: bool,
    pub(super) pattern: Option<Pattern>,
    pub(super) all_of: Box<[NodeId]>,
    pub(super) any_of: Box<[NodeId]>,
    pub(super) one_of: Box<[NodeId]>,
    pub(super) not: Option<NodeId>,
}

/// A regular expression that is compiled when first needed: most schemas are never used for validation.
#[derive(Clone, Debug)]
pub(super) struct Pattern {
    pub(super) text: Box<str>,
    compiled: OnceLock<Option<Regex>>,
}

/// Largest compiled regular expression, in bytes: patterns come from whoever may create a `CustomResourceDefinition`.
const PATTERN_SIZE_LIMIT: usize = 1 << 20;

impl Pattern {
    pub(super) fn new(text: &str) -> Self {
        Self { text: text.into(), compiled: OnceLock::new() }
    }

    /// Compiles a pattern, to see whether it can be.
    pub(super) fn compile(text: &str) -> Result<Regex, regex::Error> {
        regex::RegexBuilder::new(text).size_limit(PATTERN_SIZE_LIMIT).build()
    }

    /// Whether the text matches; a pattern that cannot be compiled matches nothing.
    pub(super) fn is_match(&self, text: &str) -> bool {
        let regex = self.compiled.get_or_init(|| Self::compile(&self.text).ok());
        regex.as_ref().is_some_and(|regex| regex.is_match(text))
    }
}

/// A node within its schema, from which its children can be reached.
#[derive(Clone, Copy, Debug)]
pub struct SchemaNode<'a> {
    arena: &'a Arena,
    id: NodeId,
}

impl<'a> SchemaNode<'a> {
    pub(super) fn new(arena: &'a Arena, id: NodeId) -> Self {
        Self { arena, id }
    }

    /// The node's own facts.
    pub fn node(self) -> &'a Node {
        &self.arena.nodes[self.id.0 as usize]
    }

    fn at(self, id: NodeId) -> Self {
        Self { arena: self.arena, id }
    }

    /// The named property of an object.
    pub fn property(self, name: &str) -> Option<SchemaNode<'a>> {
        self.find(name).map(|property| self.at(property.node))
    }

    fn find(self, name: &str) -> Option<&'a Property> {
        let properties = &self.node().properties;
        properties
            .binary_search_by(|property| (*property.name).cmp(name))
            .ok()
            .map(|index| &properties[index])
    }

    /// All properties with their names, in alphabetical order.
    pub fn properties(self) -> impl Iterator<Item = (&'a str, SchemaNode<'a>)> {
        self.node().properties.iter().map(move |property| (&*property.name, self.at(property.node)))
    }

    /// How a strategic merge patch treats the named property.
    pub fn patch_strategy(self, name: &str) -> Option<&'a PatchStrategy> {
        self.find(name).map(|property| &property.patch)
    }

    /// The shape of a map's values.
    pub fn additional_node(self) -> Option<SchemaNode<'a>> {
        self.node().additional_node.map(|id| self.at(id))
    }

    /// The shape of the field `name`: a property, or else the shape of a map's values.
    pub fn field(self, name: &str) -> Option<SchemaNode<'a>> {
        self.property(name).or_else(|| self.additional_node())
    }

    /// The shape of a list's entries.
    pub fn items(self) -> Option<SchemaNode<'a>> {
        self.node().items.map(|id| self.at(id))
    }

    /// The format of a string or number, where the schema names one.
    pub fn format(self) -> Option<&'a str> {
        self.checks().and_then(|checks| checks.format.as_deref())
    }

    /// Whether a string is of the node's format; true where there is none.
    pub fn matches_format(self, text: &str) -> bool {
        self.format().is_none_or(|format| super::format::matches(format, text))
    }

    /// Names of the fields an object must have.
    pub fn required(self) -> impl Iterator<Item = &'a str> {
        self.node().required.iter().map(|name| &**name)
    }

    /// Whether objects here are maps: keys are data, not field names.
    pub fn is_map(self) -> bool {
        self.node().additional == Additional::Map
    }

    pub(super) fn checks(self) -> Option<&'a Checks> {
        self.node().checks.as_deref()
    }

    pub(super) fn all_of(self) -> impl Iterator<Item = SchemaNode<'a>> {
        self.checks().map_or(&[][..], |checks| &checks.all_of).iter().map(move |id| self.at(*id))
    }

    pub(super) fn any_of(self) -> impl ExactSizeIterator<Item = SchemaNode<'a>> {
        self.checks().map_or(&[][..], |checks| &checks.any_of).iter().map(move |id| self.at(*id))
    }

    pub(super) fn one_of(self) -> impl ExactSizeIterator<Item = SchemaNode<'a>> {
        self.checks().map_or(&[][..], |checks| &checks.one_of).iter().map(move |id| self.at(*id))
    }

    pub(super) fn not(self) -> Option<SchemaNode<'a>> {
        self.checks().and_then(|checks| checks.not).map(|id| self.at(id))
    }
}
