//! Parquet values as JSON metadata: strings as strings, bytes that are no UTF-8 as `0x…`, dates and timestamps as ISO 8601
//! (UTC), integers and floats as numbers, a float that is no JSON number as null.

use ::parquet::basic::{ConvertedType, Type as Physical};
use ::parquet::record::Field;
use ::parquet::schema::types::{ColumnDescriptor, Type};
use serde_json::{Map, Number, Value};

/// A byte array: its characters where it is UTF-8.
pub(super) fn from_bytes(bytes: &[u8]) -> Value {
    match std::str::from_utf8(bytes) {
        Ok(s) => Value::String(s.to_string()),
        Err(_) => {
            use std::fmt::Write as _;
            let mut hex = String::with_capacity(2 + 2 * bytes.len());
            hex.push_str("0x");
            for byte in bytes {
                let _ = write!(hex, "{byte:02x}");
            }
            Value::String(hex)
        }
    }
}

pub(super) fn from_i32(descr: &ColumnDescriptor, value: i32) -> Value {
    match descr.converted_type() {
        ConvertedType::UINT_8 | ConvertedType::UINT_16 | ConvertedType::UINT_32 => Value::from(value as u32),
        ConvertedType::DATE => Value::String(date(i64::from(value))),
        _ => Value::from(value),
    }
}

pub(super) fn from_i64(descr: &ColumnDescriptor, value: i64) -> Value {
    match descr.converted_type() {
        ConvertedType::UINT_64 => Value::from(value as u64),
        ConvertedType::TIMESTAMP_MILLIS => Value::String(timestamp(value, 1_000, 3)),
        ConvertedType::TIMESTAMP_MICROS => Value::String(timestamp(value, 1_000_000, 6)),
        _ => Value::from(value),
    }
}

pub(super) fn from_millis(value: i64) -> Value {
    Value::String(timestamp(value, 1_000, 3))
}

pub(super) fn from_f64(value: f64) -> Value {
    Number::from_f64(value).map_or(Value::Null, Value::Number)
}

/// A field of the record API, read with [`untyped`] leaves.
pub(super) fn from_field(field: &Field) -> Value {
    match field {
        Field::Bool(v) => Value::Bool(*v),
        Field::Byte(v) => Value::from(*v),
        Field::Short(v) => Value::from(*v),
        Field::Int(v) | Field::Date(v) | Field::TimeMillis(v) => Value::from(*v),
        Field::Long(v) | Field::TimeMicros(v) | Field::TimestampMicros(v) => Value::from(*v),
        Field::TimestampMillis(v) => from_millis(*v),
        Field::UByte(v) => Value::from(*v),
        Field::UShort(v) => Value::from(*v),
        Field::UInt(v) => Value::from(*v),
        Field::ULong(v) => Value::from(*v),
        Field::Float16(v) => from_f64(f64::from(*v)),
        Field::Float(v) => from_f64(f64::from(*v)),
        Field::Double(v) => from_f64(*v),
        Field::Decimal(v) => from_bytes(v.data()),
        Field::Str(v) => Value::String(v.clone()),
        Field::Bytes(v) => from_bytes(v.data()),
        Field::Group(row) => {
            Value::Object(row.get_column_iter().map(|(name, f)| (name.clone(), from_field(f))).collect())
        }
        Field::ListInternal(list) => Value::Array(list.elements().iter().map(from_field).collect()),
        Field::MapInternal(map) => {
            let mut object = Map::new();
            for (key, value) in map.entries() {
                let key = match from_field(key) {
                    Value::String(s) => s,
                    other => other.to_string(),
                };
                object.insert(key, from_field(value));
            }
            Value::Object(object)
        }
        _ => Value::Null,
    }
}

/// `kind` with its leaves stripped to physical types, so that the record API hands over bytes and numbers as they are: it
/// stops at a string that is not UTF-8, and at annotations it does not know.
pub(super) fn untyped(kind: &Type) -> ::parquet::errors::Result<Type> {
    let info = kind.get_basic_info();
    if kind.is_primitive() {
        let length = match kind {
            Type::PrimitiveType { type_length, .. } => *type_length,
            Type::GroupType { .. } => -1,
        };
        let physical = kind.get_physical_type();
        let builder = Type::primitive_type_builder(kind.name(), physical).with_repetition(info.repetition());
        let builder = if physical == Physical::FIXED_LEN_BYTE_ARRAY { builder.with_length(length) } else { builder };
        return builder.build();
    }
    let fields =
        kind.get_fields().iter().map(|f| untyped(f).map(std::sync::Arc::new)).collect::<Result<Vec<_>, _>>()?;
    let mut builder = Type::group_type_builder(kind.name()).with_fields(fields);
    if info.has_repetition() {
        builder = builder.with_repetition(info.repetition());
    }
    builder.with_converted_type(info.converted_type()).build()
}

/// The proleptic Gregorian date `days` after 1970-01-01 (Howard Hinnant's days-to-civil).
fn date(days: i64) -> String {
    let z = days + 719_468;
    let era = z.div_euclid(146_097);
    let day_of_era = z.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}")
}

/// `value` units of 1/`per_second` s since the epoch.
fn timestamp(value: i64, per_second: i64, digits: usize) -> String {
    let (seconds, fraction) = (value.div_euclid(per_second), value.rem_euclid(per_second));
    let (days, s) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    format!("{}T{:02}:{:02}:{:02}.{fraction:0digits$}Z", date(days), s / 3600, s / 60 % 60, s % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_and_times_are_iso_8601() {
        assert_eq!(date(0), "1970-01-01");
        assert_eq!(date(11_016), "2000-02-29");
        assert_eq!(date(-1), "1969-12-31");
        assert_eq!(date(-719_528), "0000-01-01");
        assert_eq!(timestamp(951_782_400_123, 1000, 3), "2000-02-29T00:00:00.123Z");
        assert_eq!(timestamp(-1, 1_000_000, 6), "1969-12-31T23:59:59.999999Z");
        assert!(!timestamp(i64::MIN, 1000, 3).is_empty());
    }

    #[test]
    fn bytes_that_are_no_text_are_hexadecimal() {
        assert_eq!(from_bytes("naïve".as_bytes()), Value::from("naïve"));
        assert_eq!(from_bytes(&[0xff, 0x00]), Value::from("0xff00"));
        assert_eq!(from_f64(f64::NAN), Value::Null);
    }
}
