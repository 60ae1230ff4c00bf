//! The changelog: `## [Unreleased]`, then `## [VERSION] - DATE` for each version, each with entries.

/// Errors in a changelog, and the tasks before a release.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct State {
    pub wrong: Vec<String>,
    pub open: Vec<String>,
}

/// A section of the second level.
struct Section<'a> {
    name: &'a str,
    /// The text after the name: ` - 2027-01-31`.
    rest: &'a str,
    entries: usize,
}

/// Checks a changelog for a release of a version.
pub(super) fn check(text: &str, version: &str) -> State {
    let sections = sections(text);
    let find = |name: &str| sections.iter().find(|section| section.name == name);
    let mut state = State::default();
    match find(version) {
        None => state.wrong.push(format!("CHANGELOG.md has no section `## [{version}]`")),
        Some(section) if section.entries == 0 => state.wrong.push(format!("CHANGELOG.md has no entries for {version}")),
        Some(section) if !section.rest.strip_prefix(" - ").is_some_and(is_date) => {
            state.open.push(format!("CHANGELOG.md has no date in `## [{version}] - YYYY-MM-DD`"));
        }
        Some(_) => {}
    }
    match find("Unreleased") {
        None => state.wrong.push("CHANGELOG.md has no section `## [Unreleased]`".into()),
        Some(section) if section.entries > 0 => {
            state.open.push(format!(
                "CHANGELOG.md has {} entries under Unreleased: a version must have them",
                section.entries
            ));
        }
        Some(_) => {}
    }
    state
}

fn sections(text: &str) -> Vec<Section<'_>> {
    let mut sections: Vec<Section<'_>> = Vec::new();
    for line in text.lines() {
        if let Some((name, rest)) = line.strip_prefix("## [").and_then(|heading| heading.split_once(']')) {
            sections.push(Section { name, rest, entries: 0 });
        } else if (line.starts_with("* ") || line.starts_with("- "))
            && let Some(section) = sections.last_mut()
        {
            section.entries += 1;
        }
    }
    sections
}

fn is_date(text: &str) -> bool {
    let parts: Vec<&str> = text.split('-').collect();
    let digits = |part: &&str, count: usize| part.len() == count && part.bytes().all(|byte| byte.is_ascii_digit());
    matches!(&parts[..], [year, month, day] if digits(year, 4) && digits(month, 2) && digits(day, 2))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(wrong: &[&str], open: &[&str]) -> State {
        let owned = |list: &[&str]| list.iter().map(|&text| text.into()).collect();
        State { wrong: owned(wrong), open: owned(open) }
    }

    #[test]
    fn a_release_has_its_section_and_date() {
        let ready = "# Changelog\n\n## [Unreleased]\n\n## [0.2.0] - 2027-01-31\n\n### Added\n\n* a\n  b\n\n## [0.1.0] - 2026-12-01\n\n* a\n";
        assert_eq!(check(ready, "0.2.0"), State::default());
        let missing = "CHANGELOG.md has no section `## [0.3.0]`";
        assert_eq!(check(ready, "0.3.0"), state(&[missing], &[]));
        let undated = ready.replace(" - 2027-01-31", "");
        assert_eq!(check(&undated, "0.2.0"), state(&[], &["CHANGELOG.md has no date in `## [0.2.0] - YYYY-MM-DD`"]));
        assert_eq!(check(&ready.replace("2027-01-31", "soon"), "0.2.0").open.len(), 1);
        let empty = ready.replace("* a\n  b\n", "");
        assert_eq!(check(&empty, "0.2.0"), state(&["CHANGELOG.md has no entries for 0.2.0"], &[]));
    }

    #[test]
    fn entries_without_a_version_are_open() {
        let text = "## [Unreleased]\n\n* a\n- b\n\n## [0.1.0] - 2026-12-01\n\n* a\n";
        let entries = "CHANGELOG.md has 2 entries under Unreleased: a version must have them";
        assert_eq!(check(text, "0.1.0"), state(&[], &[entries]));
        assert_eq!(check("## [0.1.0] - 2026-12-01\n* a\n", "0.1.0").wrong.len(), 1);
    }

    #[test]
    fn this_changelog_has_this_version() {
        let text = std::fs::read_to_string(crate::env::workspace().join("CHANGELOG.md")).unwrap();
        assert_eq!(check(&text, env!("CARGO_PKG_VERSION")).wrong, <[String; 0]>::default());
    }
}
