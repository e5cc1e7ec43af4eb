//! Tables: objects as rows of cells, rendered by the server so that every client prints the same (`meta.k8s.io` `Table`).
//!
//! | module | what it does |
//! |---|---|
//! | [`column`] | the head of a column |
//! | [`jsonpath`] | the subset of JSONPath in which CustomResourceDefinitions name fields |
//! | `custom` | columns of custom kinds: `additionalPrinterColumns` |
//! | `builtin` | columns of the built-in kinds |
//! | `object` | what the columns of the built-in kinds read objects with |
//!
//! Source: Kubernetes API concepts, "Receiving resources as Tables".

mod builtin;
pub mod column;
mod custom;
pub mod jsonpath;
mod object;
#[cfg(test)]
mod tests;

use jiff::Timestamp;
use serde_json::{Map, Value, json};

pub use column::{Column, ColumnType};

use builtin::Printer;
use custom::CustomColumns;
use object::Object;

/// How the rows of a kind are made.
#[derive(Clone, Debug)]
pub struct Columns {
    definitions: Vec<Value>,
    cells: Cells,
}

#[derive(Clone, Debug)]
enum Cells {
    BuiltIn(Printer),
    Custom(CustomColumns),
}

impl Columns {
    /// Columns of a built-in kind; `group` is empty for the core group. Kinds without columns of their own have a name and
    /// the time of creation.
    pub fn of_builtin(group: &str, kind: &str) -> Self {
        let printer = builtin::printer(group, kind);
        let definitions = printer.columns.iter().map(|column| column.definition()).collect();
        Self { definitions, cells: Cells::BuiltIn(printer) }
    }

    /// Columns of a custom kind: its name, then `additionalPrinterColumns` of a version in CustomResourceDefinition
    /// `apiextensions.k8s.io/v1`; its age if there are none. A column whose path cannot be read stays empty.
    pub fn of_custom(printer_columns: &[Value]) -> Self {
        let (definitions, columns) = CustomColumns::read(printer_columns);
        Self { definitions, cells: Cells::Custom(columns) }
    }

    /// `columnDefinitions` of the table.
    pub fn definitions(&self) -> Value {
        self.definitions.clone().into()
    }

    /// One cell per column. Times are shown as ages at `now`.
    pub fn cells(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        match &self.cells {
            Cells::BuiltIn(printer) => (printer.cells)(Object::new(object, now)),
            Cells::Custom(columns) => columns.cells(object, now),
        }
    }

    /// `conditions` of the object's row: that a pod has run to its end.
    pub fn conditions(&self, object: &Value) -> Option<Value> {
        match &self.cells {
            Cells::BuiltIn(printer) => (printer.conditions)(object),
            Cells::Custom(_) => None,
        }
    }
}

/// What of an object its row carries: query parameter `includeObject`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum IncludeObject {
    /// Nothing.
    None,
    /// `PartialObjectMetadata`.
    #[default]
    Metadata,
    /// All of it.
    Object,
}

impl IncludeObject {
    /// Reads the query parameter; empty means the default. `None` if it is not one of the known values.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "" | "Metadata" => Some(Self::Metadata),
            "None" => Some(Self::None),
            "Object" => Some(Self::Object),
            _ => None,
        }
    }
}

/// The form of a table, apart from its columns.
#[derive(Clone, Copy, Debug)]
pub struct Form<'a> {
    /// Version of `meta.k8s.io`: `v1` or `v1beta1`.
    pub version: &'a str,
    /// What rows carry besides cells.
    pub include: IncludeObject,
    /// Whether there are column definitions; a watch sends them with its first event only.
    pub headers: bool,
}

/// A `Table` of `objects`. `list_metadata` is the metadata of the list: `resourceVersion`, `continue` and so on.
pub fn table(
    columns: &Columns,
    form: Form<'_>,
    objects: impl IntoIterator<Item = Value>,
    list_metadata: &Value,
    now: Timestamp,
) -> Value {
    let rows: Vec<Value> = objects.into_iter().map(|object| row(columns, form, object, now)).collect();
    json!({
        "kind": "Table",
        "apiVersion": format!("meta.k8s.io/{}", form.version),
        "metadata": list_metadata,
        "columnDefinitions": if form.headers { columns.definitions() } else { json!([]) },
        "rows": rows,
    })
}

fn row(columns: &Columns, form: Form<'_>, object: Value, now: Timestamp) -> Value {
    let mut row = Map::new();
    row.insert("cells".into(), columns.cells(&object, now).into());
    if let Some(conditions) = columns.conditions(&object) {
        row.insert("conditions".into(), conditions);
    }
    let carried = match form.include {
        IncludeObject::None => Value::Null,
        IncludeObject::Metadata => partial_metadata(object, form.version),
        IncludeObject::Object => object,
    };
    row.insert("object".into(), carried);
    Value::Object(row)
}

/// The metadata of an object alone: `PartialObjectMetadata` of the named version of `meta.k8s.io`.
pub fn partial_metadata(mut object: Value, version: &str) -> Value {
    let metadata = object.get_mut("metadata").map(Value::take);
    json!({
        "kind": "PartialObjectMetadata",
        "apiVersion": format!("meta.k8s.io/{version}"),
        "metadata": metadata.filter(Value::is_object).unwrap_or_else(|| json!({})),
    })
}
