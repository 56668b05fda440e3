//! Patches that change a list: add, remove, insert, replace.

use super::outcome::Verdict;
use super::value::Thing;
use super::{Patch, filter_name};
use crate::api::envoy_filter::{FilterClass, PatchOperation as Operation};

/// Applies a patch that does not merge to a list. `anchor` matches the items that it refers to; without one it refers to the
/// list.
pub(super) fn edit<T: Thing>(
    list: &mut Vec<T>,
    patch: &Patch,
    anchor: Option<impl Fn(&T) -> bool>,
) -> Verdict {
    let found = anchor.as_ref().map(|is_anchor| list.iter().position(is_anchor));
    match (patch.operation, found) {
        (Operation::Add, _) | (Operation::InsertAfter, None) => insert(list, list.len(), patch),
        (Operation::InsertFirst, _) | (Operation::InsertBefore, None) => insert(list, 0, patch),
        (Operation::InsertBefore, Some(Some(at))) => insert(list, at, patch),
        (Operation::InsertAfter, Some(Some(at))) => insert(list, at + 1, patch),
        (Operation::Replace, Some(Some(at))) => match (list.get_mut(at), patch.brings::<T>()) {
            (Some(item), Some(value)) => {
                *item = value.clone();
                Verdict::Applied
            }
            _ => Verdict::NotMatched,
        },
        (Operation::Remove, Some(Some(_))) => {
            if let Some(is_anchor) = anchor {
                list.retain(|item| !is_anchor(item));
            }
            Verdict::Applied
        }
        _ => Verdict::NotMatched,
    }
}

/// Inserts the value of a patch at a position of a list.
pub(super) fn insert<T: Thing>(list: &mut Vec<T>, at: usize, patch: &Patch) -> Verdict {
    let Some(value) = patch.brings::<T>() else { return Verdict::NotMatched };
    list.insert(at.min(list.len()), value.clone());
    Verdict::Applied
}

/// Returns the position of a filter of a class among filters of these names. Filters of the same class are in order of adding, by
/// `added`.
///
/// Istio's API has these classes and its code ignores them; this follows the description of the API.
pub(super) fn place(class: FilterClass, names: &[&str], added: &[(String, FilterClass)]) -> usize {
    let class_of = |name: &str| {
        let added = added.iter().find(|(known, _)| known == name);
        added.map_or_else(|| filter_name::class(name), |(_, class)| *class)
    };
    let after = |classes: &[FilterClass]| {
        names.iter().rposition(|name| classes.contains(&class_of(name))).map_or(0, |at| at + 1)
    };
    match class {
        FilterClass::Unspecified => names.len(),
        FilterClass::Authn => after(&[FilterClass::Authn]),
        FilterClass::Authz => after(&[FilterClass::Authn, FilterClass::Authz]),
        FilterClass::Stats => {
            let stats = |name: &&str| filter_name::class(name) == FilterClass::Stats;
            // The last generated filter is the terminal one and must stay last.
            let generated = |name: &&str| !added.iter().any(|(known, _)| known == name);
            let end = || names.iter().rposition(generated).unwrap_or(names.len());
            names.iter().position(stats).unwrap_or_else(end)
        }
    }
}
