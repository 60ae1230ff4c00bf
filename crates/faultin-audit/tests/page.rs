//! The page: well formed, complete, self-contained; and, where there is a browser, it opens.

use std::collections::{BTreeMap, HashSet};
use std::path::PathBuf;
use std::process::Command;

use faultin_audit::environment::Feature;
use faultin_audit::render::html;
use faultin_audit::run::Outcome;
use faultin_audit::{Caller, Memory, Model, Report, Scenario, Selection, Variant, callers, run};

/// Two callers that run and one that does not.
fn small() -> Report {
    let not_yet = Caller { job: None, ..callers::named("gfs2 direct write")[0] };
    run::report(&Selection {
        callers: [5, 6].map(|row: u8| callers::named(&row.to_string())[0]).into_iter().chain([not_yet]).collect(),
        scenarios: vec![Scenario::AllResident, Scenario::SecondPageBad, Scenario::Remapping],
        variants: Variant::ALL.into(),
        memories: Memory::ALL.into(),
    })
}

/// An element: its name, its attributes, and all text in it.
#[derive(Debug, Default)]
struct Element {
    name: String,
    attributes: BTreeMap<String, String>,
    text: String,
}

impl Element {
    fn is(&self, name: &str, class: &str) -> bool {
        self.name == name && self.attribute("class").split(' ').any(|c| c == class)
    }

    fn attribute(&self, name: &str) -> &str {
        self.attributes.get(name).map(String::as_str).unwrap_or_default()
    }
}

/// Parses the elements of a page, outermost last. Stricter than a browser: each one has an end tag, except void elements;
/// attributes are quoted; there is no `<` outside of tags.
fn parsed(page: &str) -> Vec<Element> {
    const VOID: [&str; 3] = ["meta", "br", "!DOCTYPE"];
    let (mut open, mut done): (Vec<Element>, Vec<Element>) = (Vec::new(), Vec::new());
    let mut rest = page;
    while let Some(at) = rest.find('<') {
        let (text, tag) = rest.split_at(at);
        open.iter_mut().for_each(|element| element.text += &unescaped(text));
        let (tag, after) = tag[1..].split_once('>').unwrap_or_else(|| panic!("no end: {tag}"));
        rest = after;
        if let Some(name) = tag.strip_prefix('/') {
            let element = open.pop().unwrap_or_else(|| panic!("</{name}> without a beginning"));
            assert_eq!(element.name, name, "ends what began as");
            done.push(element);
            continue;
        }
        let element = element(tag);
        if element.name == "style" || element.name == "script" {
            let (raw, after) = rest.split_once(&format!("</{}>", element.name)).expect("an end");
            rest = after;
            done.push(Element { text: raw.into(), ..element });
        } else if VOID.contains(&element.name.as_str()) {
            done.push(element);
        } else {
            open.push(element);
        }
    }
    assert!(open.is_empty() && rest.trim().is_empty(), "unfinished: {open:?} {rest}");
    done
}

fn element(tag: &str) -> Element {
    let (name, mut rest) = tag.split_once(' ').unwrap_or((tag, ""));
    let mut attributes = BTreeMap::new();
    while !rest.is_empty() && name != "!DOCTYPE" {
        let end = rest.find([' ', '=']).unwrap_or(rest.len());
        let (key, after) = rest.split_at(end);
        let (value, after) = match after.strip_prefix("=\"") {
            Some(after) => after.split_once('"').unwrap_or_else(|| panic!("{tag}: {key} has no end")),
            None => ("", after),
        };
        assert!(!key.is_empty() && attributes.insert(key.to_string(), unescaped(value)).is_none(), "{tag}: {key}");
        rest = after.strip_prefix(' ').unwrap_or(after);
    }
    Element { name: name.into(), attributes, text: String::new() }
}

fn unescaped(text: &str) -> String {
    text.replace("&lt;", "<").replace("&gt;", ">").replace("&quot;", "\"").replace("&amp;", "&")
}

#[test]
fn every_square_opens_the_expectation_and_the_steps_on_each_memory() {
    let report = small();
    let elements = parsed(&html::page(&Model::of(&report)));
    let ids: Vec<&str> = elements.iter().map(|e| e.attribute("id")).filter(|id| !id.is_empty()).collect();
    assert_eq!(ids.iter().collect::<HashSet<_>>().len(), ids.len(), "{ids:?}");
    let squares: Vec<&Element> = elements.iter().filter(|e| e.is("button", "square")).collect();
    assert_eq!(squares.len(), 2 * 2 * 3);
    for square in squares {
        let id = square.attribute("popovertarget");
        let details = elements.iter().find(|e| e.attribute("id") == id).unwrap_or_else(|| panic!("{id} opens nothing"));
        assert!(details.attributes.contains_key("popover") && details.attribute("role") == "dialog", "{id}");
        let [row, name] = id.splitn(2, '-').collect::<Vec<_>>()[..] else { panic!("{id}") };
        let cells: Vec<_> = report
            .cells
            .iter()
            .filter(|c| {
                c.caller.row.to_string() == row && name == format!("{}-{}", c.variant.name(), c.scenario.slug())
            })
            .collect();
        assert_eq!(cells.len(), 2, "{id}");
        for cell in cells {
            let expectation = cell.expectation.unwrap();
            for text in
                [cell.caller.origin(cell.variant), expectation.source, &cell.actual(), &cell.expected().unwrap()]
            {
                assert!(details.text.contains(text), "{id}: no {text} in {}", details.text);
            }
            let Outcome::Ran(ran) = &cell.outcome else { continue };
            let last = ran.steps.last().map(ToString::to_string).unwrap_or_default();
            assert!(details.text.contains(&last), "{id}: no {last} in {}", details.text);
        }
    }
}

#[test]
fn the_mail_stands_beside_each_row_and_what_does_not_run_says_so() {
    let elements = parsed(&html::page(&Model::of(&small())));
    let callers: Vec<&Element> = elements.iter().filter(|e| e.is("th", "caller")).collect();
    let names: Vec<_> = small().cells.iter().map(|c| (c.caller.name, c.caller.finding, c.caller.need)).collect();
    assert_eq!(callers.len(), 3);
    for caller in callers {
        let row = names.iter().find(|(name, ..)| caller.text.contains(name)).unwrap();
        assert!(caller.text.contains(row.1) && caller.text.contains(row.2.name()), "{}", caller.text);
    }
    assert_eq!(elements.iter().filter(|e| e.is("td", "later")).count(), 1);
}

#[test]
fn nothing_is_fetched_and_no_text_becomes_markup() {
    let mut report = small();
    let evil = "<script src=\"http://x\">alert('&')</script>";
    let Outcome::Ran(ran) = &mut report.cells[0].outcome else { panic!("it ran") };
    ran.verdict = Err(evil.into());
    let page = html::page(&Model::of(&report));
    let elements = parsed(&page);
    assert!(elements.iter().any(|e| e.is("dd", "wrong") && e.text.contains(evil)));
    assert_eq!(elements.iter().filter(|e| e.name == "script").count(), 1);
    for element in &elements {
        for attribute in ["src", "href", "srcset", "action", "data"] {
            assert!(!element.attributes.contains_key(attribute), "{element:?}");
        }
        if element.name == "style" || element.name == "script" {
            assert!(
                !["http", "url(", "@import", "//x"].iter().any(|word| element.text.contains(word)),
                "{}",
                element.name
            );
        }
    }
    assert_eq!(page.matches("http").count(), 2, "the text above, and http-equiv");
}

#[test]
fn no_kind_of_result_is_told_by_colour_alone() {
    let mut report = small();
    report.cells[0].outcome = Outcome::Skipped { feature: Feature::Poison, allowed: false };
    let elements = parsed(&html::page(&Model::of(&report)));
    let mut signs: BTreeMap<&str, HashSet<char>> = BTreeMap::new();
    for square in elements.iter().filter(|e| e.is("button", "square")) {
        let class = square.attribute("class").split(' ').nth(1).unwrap();
        signs
            .entry(class)
            .or_default()
            .insert(square.text.chars().find(|c| !c.is_alphanumeric() && !" -".contains(*c)).unwrap());
    }
    assert!(["fine", "defect", "livelock", "unexpected"].iter().all(|class| signs.contains_key(class)), "{signs:?}");
    let different: HashSet<_> = signs.values().flatten().collect();
    assert_eq!(different.len(), signs.len(), "{signs:?}");
}

/// Returns a browser that can be started without a window.
fn browser() -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let names = ["chromium", "chromium-browser", "google-chrome-stable", "google-chrome"];
    std::env::split_paths(&path).flat_map(|dir| names.map(|name| dir.join(name))).find(|file| file.is_file())
}

#[test]
fn in_a_browser_a_click_opens_a_square_and_an_address_does_too() {
    let Some(browser) = browser() else {
        return faultin_test::skipped("chromium", "no browser in PATH");
    };
    let directory = tempfile::tempdir().unwrap();
    let page = directory.path().join("page.html");
    // The open state is not an attribute, so the page is made to write it where a dump shows it.
    let say = "<script>\
        const opened = () => document.querySelector('[popover]:popover-open')?.id;\
        const byAddress = opened();\
        document.querySelector(':popover-open .close')?.click();\
        const closed = opened();\
        document.querySelector('button[popovertarget=\"6-fixed-all-resident\"]').click();\
        document.title = [byAddress, closed, opened()].join(' then ');\
        </script></body>";
    std::fs::write(&page, html::page(&Model::of(&small())).replace("</body>", say)).unwrap();
    let output = Command::new(browser)
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"])
        .args(["--disable-component-update", "--disable-sync", "--disable-dev-shm-usage", "--dump-dom"])
        .arg(format!("--user-data-dir={}", directory.path().join("profile").display()))
        .arg(format!("file://{}#5-as-found-second-page-bad", page.display()))
        .output()
        .unwrap();
    let dom = String::from_utf8(output.stdout).unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    assert!(
        dom.contains("<title>5-as-found-second-page-bad then  then 6-fixed-all-resident</title>"),
        "{}\n{errors}",
        dom.get(..2000).unwrap_or(&dom)
    );
    assert_eq!(dom.matches("class=\"square").count(), 12);
}
