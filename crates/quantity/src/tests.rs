use proptest::prelude::*;
use serde_json::json;

use crate::{Format, Quantity};

fn quantity(text: &str) -> Quantity {
    text.parse().expect(text)
}

fn canonical(text: &str) -> String {
    quantity(text).to_string()
}

#[test]
fn canonical_forms() {
    let cases = [
        ("0", "0"),
        ("0Ki", "0"),
        ("1.5", "1500m"),
        ("1500m", "1500m"),
        ("2000m", "2"),
        ("1.5Gi", "1536Mi"),
        ("1024Ki", "1Mi"),
        ("512Ki", "512Ki"),
        ("0.5Ki", "512"),
        ("100", "100"),
        ("1000", "1k"),
        ("1000000", "1M"),
        ("12e6", "12e6"),
        ("1200e4", "12e6"),
        ("1e3", "1e3"),
        ("0.1m", "100u"),
        ("0.0000000001", "1n"),
        ("-1.5", "-1500m"),
        ("+3", "3"),
        (".5", "500m"),
        ("5.", "5"),
        ("1E", "1E"),
        ("9223372036854775807", "9223372036854775807"),
        ("99999999999999999999999", "9223372036854775807"),
        ("1Ei", "1Ei"),
        ("100Ei", "9223372036854775807"),
    ];
    for (text, expected) in cases {
        assert_eq!(canonical(text), expected, "{text}");
    }
}

#[test]
fn what_is_no_quantity() {
    for wrong in
        ["", " 1", "1 ", "Gi", "1gi", "1.2.3", "1e", "1e+", "--1", "1KB", "0x10", ".", "1Mi2", "1m m"]
    {
        assert!(wrong.parse::<Quantity>().is_err(), "{wrong}");
    }
}

#[test]
fn values_round_up() {
    assert_eq!(quantity("1500m").value(), 2);
    assert_eq!(quantity("100m").milli_value(), 100);
    assert_eq!(quantity("2Gi").value(), 2 << 30);
    assert_eq!(quantity("1.0001Ki").to_string(), "1025");
    assert_eq!(quantity("8E").milli_value(), i64::MAX);
    assert!(quantity("1Gi") > quantity("1G"));
    assert_eq!(quantity("1000m"), quantity("1"));
}

/// What the parsers that this crate replaced agreed on, in thousandths.
#[test]
fn the_grammar() {
    for (text, thousandths) in [
        ("0", 0),
        ("2", 2000),
        ("100m", 100),
        ("500m", 500),
        ("0.5", 500),
        (".5", 500),
        ("5.", 5000),
        ("1.5Ki", 1_536_000),
        ("1.5Gi", 1_610_612_736_000),
        ("64Mi", 67_108_864_000),
        ("1e3", 1_000_000),
        ("2E2", 200_000),
        ("1E-3", 1),
        ("1E", i64::MAX),
        ("1e99", i64::MAX),
        ("-1e99", i64::MIN),
        ("1e-99", 1),
        ("100k", 100_000_000),
        ("100u", 1),
        ("1n", 1),
        ("0.0001", 1),
        ("-3", -3000),
        ("-2", -2000),
        ("+3", 3000),
    ] {
        assert_eq!(quantity(text).milli_value(), thousandths, "{text}");
    }
    for (text, units) in [("1500m", 2), ("-1500m", -2), ("128974848", 128_974_848), ("123Mi", 128_974_848)] {
        assert_eq!(quantity(text).value(), units, "{text}");
    }
}

#[test]
fn json_is_a_text_or_a_number() {
    assert_eq!(Quantity::from_json(&json!("1500m")), Ok(quantity("1.5")));
    assert_eq!(Quantity::from_json(&json!(2)), Ok(quantity("2")));
    assert_eq!(Quantity::from_json(&json!(0.5)), Ok(quantity("500m")));
    for wrong in [json!(null), json!(true), json!(["1"]), json!({"cpu": 1}), json!("one")] {
        assert!(Quantity::from_json(&wrong).is_err(), "{wrong}");
    }
}

#[test]
fn amounts_are_counted_in_other_amounts() {
    let count = |amount: &str, unit: &str| quantity(amount).in_units_of(quantity(unit));
    assert_eq!(count("1500m", "1"), Some(2));
    assert_eq!(count("1500m", "1m"), Some(1500));
    assert_eq!(count("64Mi", "1Mi"), Some(64));
    assert_eq!(count("65M", "1Mi"), Some(62));
    assert_eq!(count("8E", "1m"), Some(i64::MAX));
    assert_eq!(count("-3", "2"), Some(-2));
    assert_eq!(count("-3", "-2"), Some(2));
    assert_eq!(count("1", "0"), None);
}

proptest! {
    #[test]
    fn canonical_text_is_stable(whole in 0u64..=u64::MAX >> 1, fraction in "[0-9]{0,9}",
                                suffix in "|m|k|M|Ki|Mi|Gi|e3|e-2") {
        let quantity: Quantity = format!("{}.{fraction}{suffix}", whole % 1_000_000).parse().expect("well formed");
        let again: Quantity = quantity.to_string().parse().expect("canonical");
        if quantity.format() == Format::BinarySi {
            // Bytes come in wholes.
            prop_assert_eq!(again.value(), quantity.value());
        } else {
            prop_assert_eq!(again.to_string(), quantity.to_string());
            prop_assert_eq!(again, quantity);
        }
    }

    #[test]
    fn whole_numbers_are_exact(units in any::<i64>()) {
        let quantity: Quantity = units.to_string().parse().expect("a number");
        prop_assert_eq!(quantity.value().max(-i64::MAX), units.max(-i64::MAX));
    }

    #[test]
    fn any_text_is_read_or_refused(text in ".{0,60}") {
        let _ = text.parse::<Quantity>();
    }

    #[test]
    fn what_nearly_is_one_is_read_or_refused(text in "[+-]?[0-9.]{0,50}([eE][+-]?[0-9]{0,7}|[numkMGTPEi]{0,3})") {
        if let Ok(quantity) = text.parse::<Quantity>() {
            let (units, thousandths) = (quantity.value(), quantity.milli_value());
            prop_assert!(units.unsigned_abs() <= thousandths.unsigned_abs());
            prop_assert_eq!(units.signum(), thousandths.signum());
            prop_assert_eq!(quantity.is_negative(), units < 0);
            prop_assert_eq!(quantity.is_zero(), units == 0);
            prop_assert!(quantity.to_string().parse::<Quantity>().is_ok());
        }
    }

    /// Against the definition: digits, a point, a factor; the result is the smallest billionth that is not below.
    #[test]
    fn decimals_are_exact(whole in 0u64..1_000_000, fraction in "[0-9]{0,14}",
                          suffix in prop::sample::select(vec![("m", -3i32), ("", 0), ("k", 3), ("e2", 2), ("e-1", -1)])) {
        let (suffix, power) = suffix;
        let quantity = quantity(&format!("{whole}.{fraction}{suffix}"));
        let digits: i128 = format!("{whole}{fraction}").parse().expect("digits");
        let decimals = i32::try_from(fraction.len()).expect("short") - power - 9;
        let expected = if decimals > 0 {
            let divisor = 10_i128.pow(decimals.unsigned_abs());
            digits / divisor + i128::from(digits % divisor != 0)
        } else {
            digits * 10_i128.pow(decimals.unsigned_abs())
        };
        prop_assert_eq!(quantity.nanos, expected);
    }

    #[test]
    fn addition_undoes_subtraction(a in -1_000_000_000i64..1_000_000_000, b in -1_000_000_000i64..1_000_000_000) {
        let (a, b) = (Quantity::from_units(a, Format::DecimalSi), Quantity::from_units(b, Format::DecimalSi));
        prop_assert_eq!(a.plus(b).minus(b), a);
    }
}
