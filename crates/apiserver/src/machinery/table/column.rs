//! The head of a column: `TableColumnDefinition` of `meta.k8s.io`.

use serde_json::{Value, json};

/// What kind of value the cells of a column hold: an OpenAPI type, or `date`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ColumnType {
    /// Text.
    Text,
    /// A whole number.
    Integer,
    /// Any number.
    Number,
    /// True or false.
    Boolean,
    /// A time, shown as an age.
    Date,
}

impl ColumnType {
    /// The type as definitions write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Text => "string",
            Self::Integer => "integer",
            Self::Number => "number",
            Self::Boolean => "boolean",
            Self::Date => "date",
        }
    }

    /// The type of a name; text if it is not known.
    pub fn parse(text: &str) -> Self {
        match text {
            "integer" => Self::Integer,
            "number" => Self::Number,
            "boolean" => Self::Boolean,
            "date" => Self::Date,
            _ => Self::Text,
        }
    }
}

/// A column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Column<'a> {
    /// What is printed above it, in upper case.
    pub name: &'a str,
    /// Type of the cells.
    pub column_type: ColumnType,
    /// OpenAPI format; `name` marks the column that identifies the object.
    pub format: &'a str,
    /// What the column shows, for people.
    pub description: &'a str,
    /// 0 is always shown, more only when asked for (`-o wide`).
    pub priority: i32,
}

impl<'a> Column<'a> {
    const fn new(name: &'a str, column_type: ColumnType) -> Self {
        Self { name, column_type, format: "", description: "", priority: 0 }
    }

    /// The column that identifies the object.
    pub(super) const NAME: Self = Self {
        name: "Name",
        column_type: ColumnType::Text,
        format: "name",
        description: "Name of the object, unique among its kind in its namespace.",
        priority: 0,
    };

    /// How long ago the object was made.
    pub(super) const AGE: Self =
        Self { description: "Time since the object was created.", ..Self::new("Age", ColumnType::Text) };

    /// When the object was made.
    pub(super) const CREATED: Self = Self {
        description: "Time at which the object was created, in UTC.",
        ..Self::new("Created At", ColumnType::Date)
    };

    /// A column of text.
    pub(super) const fn text(name: &'a str) -> Self {
        Self::new(name, ColumnType::Text)
    }

    /// A column of whole numbers.
    pub(super) const fn integer(name: &'a str) -> Self {
        Self::new(name, ColumnType::Integer)
    }

    /// A column of truths.
    pub(super) const fn boolean(name: &'a str) -> Self {
        Self::new(name, ColumnType::Boolean)
    }

    /// The column of text, shown with `-o wide` only.
    pub(super) const fn wide(name: &'a str) -> Self {
        Self { priority: 1, ..Self::new(name, ColumnType::Text) }
    }

    /// The column as an entry of `columnDefinitions`.
    pub fn definition(self) -> Value {
        json!({
            "name": self.name,
            "type": self.column_type.as_str(),
            "format": self.format,
            "description": self.description,
            "priority": self.priority,
        })
    }
}
