//! The versions of a record, computed from its differences as events store them. Pure.

use serde_json::Value;

/// What the stored content of an event says about its record.
#[derive(Debug, PartialEq)]
pub enum Content<'a> {
    /// The whole record after the change.
    Whole(&'a Value),
    /// The differences from the version before.
    Changed(&'a [Value]),
    /// Nothing: it was erased, or is of an unknown form.
    Nothing,
}

impl<'a> Content<'a> {
    /// Of the record with this name.
    pub fn of(content: &'a Value, name: &str) -> Self {
        let differences = content.get("changed").and_then(|changed| changed.get(name));
        match (content.get(name), differences) {
            (Some(whole), _) => Self::Whole(whole),
            (None, Some(Value::Array(differences))) => Self::Changed(differences),
            (None, _) => Self::Nothing,
        }
    }
}

/// Makes the next version out of a record. `None` if the differences are not those of this record.
pub fn redo(record: &mut Value, differences: &[Value]) -> Option<()> {
    for difference in differences {
        set(
            record,
            difference.get("path")?.as_str()?,
            difference.get("after"),
        )?;
    }
    Some(())
}

/// Makes the version before out of a record.
pub fn undo(record: &mut Value, differences: &[Value]) -> Option<()> {
    for difference in differences {
        set(
            record,
            difference.get("path")?.as_str()?,
            difference.get("before"),
        )?;
    }
    Some(())
}

/// Sets the value at a JSON pointer, or removes it.
fn set(record: &mut Value, path: &str, value: Option<&Value>) -> Option<()> {
    let (parent, key) = path.rsplit_once('/')?;
    let key = key.replace("~1", "/").replace("~0", "~");
    match record.pointer_mut(parent)? {
        Value::Object(fields) => {
            match value {
                Some(value) => fields.insert(key, value.clone()),
                None => fields.remove(&key),
            };
        }
        Value::Array(elements) => {
            *elements.get_mut(key.parse::<usize>().ok()?)? = value?.clone();
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => return None,
    }
    Some(())
}

/// About how many bytes a value occupies in memory.
pub fn size(value: &Value) -> usize {
    const NODE: usize = 32;
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => NODE,
        Value::String(text) => NODE + text.len(),
        Value::Array(elements) => NODE + elements.iter().map(size).sum::<usize>(),
        Value::Object(fields) => {
            let fields = fields.iter();
            NODE + fields
                .map(|(key, value)| NODE + key.len() + size(value))
                .sum::<usize>()
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn differences_are_applied_and_undone() {
        let before = json!({"a": 1, "b": {"x/y": "1", "gone": true}, "list": [1, 2]});
        let after = json!({"a": 2, "b": {"x/y": "2", "new": null}, "list": [1, 3], "c": "c"});
        let content = json!({"changed": {"thing": [
            {"path": "/a", "before": 1, "after": 2},
            {"path": "/b/x~1y", "before": "1", "after": "2"},
            {"path": "/b/gone", "before": true},
            {"path": "/b/new", "after": null},
            {"path": "/list/1", "before": 2, "after": 3},
            {"path": "/c", "after": "c"},
        ]}});
        let found = Content::of(&content, "thing");
        assert!(matches!(found, Content::Changed(_)), "{content}");
        let Content::Changed(differences) = found else {
            return;
        };
        let mut record = before.clone();
        redo(&mut record, differences).unwrap();
        assert_eq!(record, after);
        undo(&mut record, differences).unwrap();
        assert_eq!(record, before);
        assert_eq!(undo(&mut json!({"a": 1}), differences), None);
    }

    #[test]
    fn an_erased_event_says_nothing() {
        assert_eq!(
            Content::of(&json!({"erased": true}), "lead"),
            Content::Nothing
        );
        let whole = json!({"lead": {"id": 1}});
        assert_eq!(Content::of(&whole, "lead"), Content::Whole(&whole["lead"]));
    }
}
