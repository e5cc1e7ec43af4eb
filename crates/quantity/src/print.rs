//! To canonical text.

use std::fmt;

use crate::{BINARY, DECIMAL, Format, NANO, Quantity, divide_away_from_zero};

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.nanos == 0 {
            return f.write_str("0");
        }
        match self.format {
            // Below 1024 a binary suffix would say nothing.
            Format::BinarySi if self.nanos.abs() >= 1024 * NANO => {
                let nanos = divide_away_from_zero(self.nanos, NANO) * NANO;
                let (suffix, unit) = largest_exact(&BINARY, nanos).unwrap_or(("", NANO));
                write!(f, "{}{suffix}", nanos / unit)
            }
            Format::DecimalExponent => {
                let (_, unit) = largest_exact(&DECIMAL, self.nanos).unwrap_or(("n", 1));
                let exponent = unit.ilog10().cast_signed() - NANO.ilog10().cast_signed();
                let mantissa = self.nanos / unit;
                if exponent == 0 { write!(f, "{mantissa}") } else { write!(f, "{mantissa}e{exponent}") }
            }
            Format::BinarySi | Format::DecimalSi => {
                let (suffix, unit) = largest_exact(&DECIMAL, self.nanos).unwrap_or(("n", 1));
                write!(f, "{}{suffix}", self.nanos / unit)
            }
        }
    }
}

fn largest_exact(units: &[(&'static str, i128)], nanos: i128) -> Option<(&'static str, i128)> {
    units.iter().find(|(_, unit)| nanos % unit == 0).copied()
}
