//! The cases of `b3sum`'s own command-line tests as a table: `faultin sum` prints the same bytes on standard output, and
//! succeeds and fails where `b3sum` does. Cases in which it is deliberately stricter say so.

mod common;

use std::ffi::{OsStr, OsString};
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::os::unix::ffi::OsStrExt;
use std::process::{Output, Stdio};

use tempfile::TempDir;

const KEY: [u8; 32] = [42; 32];
const CONTEXT: &str = "faultin 2026-11-29 20:00:00 test of --derive-key";

/// A file of 700,000 bytes: several pieces, which different threads hash.
const BIG: usize = 700_000;

/// An invocation of `faultin sum` and its expected result.
struct Case {
    args: Vec<OsString>,
    input: Vec<u8>,
    code: i32,
    out: Vec<u8>,
    /// What standard error must contain; empty: standard error must be empty.
    err: Vec<&'static str>,
}

/// A call with these arguments, separated by spaces, that must print `out` and succeed.
fn prints(args: &str, out: impl AsRef<[u8]>) -> Case {
    let args = args.split(' ').filter(|arg| !arg.is_empty()).map(OsString::from).collect();
    Case { args, input: Vec::new(), code: 0, out: out.as_ref().to_vec(), err: Vec::new() }
}

/// A call with these arguments that must print nothing but an error, and exit with `code`.
fn fails(args: &str, code: i32, err: &'static str) -> Case {
    Case { code, err: vec![err], ..prints(args, "") }
}

impl Case {
    /// Adds an argument that may have any characters.
    fn arg(mut self, arg: impl AsRef<OsStr>) -> Case {
        self.args.push(arg.as_ref().to_owned());
        self
    }

    fn input(self, input: impl AsRef<[u8]>) -> Case {
        Case { input: input.as_ref().to_vec(), ..self }
    }

    fn but(mut self, code: i32, err: &'static str) -> Case {
        self.code = code;
        self.err.push(err);
        self
    }

    /// The difference between the output and the expected result, if any.
    fn wrong(&self, output: &Output) -> Option<String> {
        let err = String::from_utf8_lossy(&output.stderr);
        let is_right = output.status.code() == Some(self.code)
            && output.stdout == self.out
            && self.err.is_empty() == err.is_empty()
            && self.err.iter().all(|words| err.contains(words));
        (!is_right).then(|| {
            format!(
                "{:?} < {:?}\n  {:?}, {:?}, {err:?}\n  expected {}, {:?}, {:?}\n",
                self.args,
                String::from_utf8_lossy(&self.input),
                output.status,
                String::from_utf8_lossy(&output.stdout),
                self.code,
                String::from_utf8_lossy(&self.out),
                self.err
            )
        })
    }
}

/// Runs all cases in a folder; panics with all failures.
fn run(folder: &TempDir, cases: &[Case]) {
    let mut wrong = String::new();
    for case in cases {
        let child = common::faultin()
            .arg("sum")
            .args(&case.args)
            .current_dir(folder.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        wrong.extend(case.wrong(&common::ended(child, &case.input)));
    }
    assert!(wrong.is_empty(), "{wrong}");
}

fn big() -> Vec<u8> {
    (0..BIG).map(|at| (at.wrapping_mul(2_654_435_761) >> 13) as u8).collect()
}

/// A folder with a few files.
fn folder() -> TempDir {
    let folder = TempDir::new().unwrap();
    fs::create_dir(folder.path().join("c")).unwrap();
    for (name, contents) in [("a", "a"), ("b", "b"), ("c/d", "cd"), ("foo", "foo")] {
        fs::write(folder.path().join(name), contents).unwrap();
    }
    fs::write(folder.path().join("big"), big()).unwrap();
    folder
}

fn of(bytes: impl AsRef<[u8]>) -> blake3::Hash {
    blake3::hash(bytes.as_ref())
}

/// The first `len` output bytes of a hasher for `bytes`.
fn long(mut hasher: blake3::Hasher, bytes: &[u8], len: usize) -> Vec<u8> {
    let mut long = vec![0; len];
    hasher.update(bytes).finalize_xof().fill(&mut long);
    long
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut hex, byte| {
        write!(hex, "{byte:02x}").unwrap();
        hex
    })
}

#[test]
fn files_and_standard_input_in_every_style() {
    let (a, b, foo) = (of("a"), of("b"), of("foo"));
    let big = of(big());
    run(
        &folder(),
        &[
            prints("", format!("{foo}  -\n")).input("foo"),
            prints("-", format!("{foo}  -\n")).input("foo"),
            prints("a - b", format!("{a}  a\n{foo}  -\n{b}  b\n")).input("foo"),
            prints("--tag", format!("BLAKE3 (-) = {foo}\n")).input("foo"),
            prints("--raw", foo.as_bytes()).input("foo"),
            prints("--raw foo", foo.as_bytes()),
            prints("a b", format!("{a}  a\n{b}  b\n")),
            prints("./a c/../b", format!("{a}  ./a\n{b}  c/../b\n")),
            prints("--no-names a b", format!("{a}\n{b}\n")),
            prints("--tag a b", format!("BLAKE3 (a) = {a}\nBLAKE3 (b) = {b}\n")),
            // Of two styles, the one that prints less applies.
            prints("--no-names --tag a", format!("{a}\n")),
            prints("--raw --no-names --tag a", a.as_bytes()),
            prints("--no-mmap a big", format!("{a}  a\n{big}  big\n")),
            prints("--no-mmap --num-threads 1 big", format!("{big}  big\n")),
            prints("--num-threads 0 big", format!("{big}  big\n")),
            prints("--num-threads=2 big", format!("{big}  big\n")),
            prints("a missing b", format!("{a}  a\n{b}  b\n"))
                .but(1, "missing: No such file or directory (os error 2)\n"),
            prints("--no-mmap a missing b", format!("{a}  a\n{b}  b\n")).but(1, "missing: No such file or directory"),
            prints("a c b", format!("{a}  a\n{b}  b\n")).but(1, "c: Is a directory"),
            prints("--no-mmap a c b", format!("{a}  a\n{b}  b\n")).but(1, "c: Is a directory"),
            fails("--raw a b", 2, "--raw prints the checksum of one file"),
            fails("--num-threads x a", 2, "--num-threads"),
        ],
    );
}

#[test]
fn lengths_and_positions_in_the_output() {
    let foo = long(blake3::Hasher::new(), b"foo", 200_000);
    let big = long(blake3::Hasher::new(), &big(), 200);
    run(
        &folder(),
        &[
            prints("--raw --length=100", &foo[..100]).input("foo"),
            prints("--raw --length=99", &foo[..99]).input("foo"),
            prints("--raw --length=99 --seek=1", &foo[1..100]).input("foo"),
            prints("--raw --length=1 --seek=99", &foo[99..100]).input("foo"),
            prints("--raw -l 200000 foo", &foo),
            prints("-l 5 foo", format!("{}  foo\n", hex(&foo[..5]))),
            prints("-l 65 foo", format!("{}  foo\n", hex(&foo[..65]))),
            prints("-l 10000 --tag foo", format!("BLAKE3 (foo) = {}\n", hex(&foo[..10_000]))),
            prints("--seek 63 --no-names foo", format!("{}\n", hex(&foo[63..95]))),
            prints("--seek 3 -l 190 --no-names big", format!("{}\n", hex(&big[3..193]))),
            // `b3sum` prints an empty checksum, which is the same for all files.
            fails("--length 0 foo", 2, "0 is not in 1.."),
            fails("--length", 2, "--length"),
            fails("--length -1 foo", 2, "-1"),
            fails("--seek x foo", 2, "--seek"),
            // `--check` compares the output from the same position.
            prints("--check --seek 7", "foo: OK\n").input(format!("{}  foo\n", hex(&foo[7..39]))),
            prints("--check --seek 8", "foo: FAILED\n")
                .input(format!("{}  foo\n", hex(&foo[7..39])))
                .but(1, "1 of the files"),
        ],
    );
}

#[test]
fn keys_and_contexts() {
    let keyed = blake3::Hasher::new_keyed(&KEY);
    let derived = blake3::Hasher::new_derive_key(CONTEXT);
    let (foo, big) = (blake3::keyed_hash(&KEY, b"foo"), big());
    let (keyed_big, derived_big) = (hex(&long(keyed.clone(), &big, 32)), hex(&long(derived.clone(), &big, 32)));
    let derived_foo = hex(&blake3::derive_key(CONTEXT, b"foo"));
    let mut cases = vec![
        prints("--keyed --no-names foo", format!("{foo}\n")).input(KEY),
        prints("--keyed foo big", format!("{foo}  foo\n{keyed_big}  big\n")).input(KEY),
        prints("--keyed --no-mmap foo big", format!("{foo}  foo\n{keyed_big}  big\n")).input(KEY),
        prints("--keyed --raw -l 50 --seek 9 big", &long(keyed, &big, 59)[9..]).input(KEY),
        prints("--no-names foo --derive-key", format!("{derived_foo}\n")).arg(CONTEXT),
        prints("foo big --derive-key", format!("{derived_foo}  foo\n{derived_big}  big\n")).arg(CONTEXT),
        prints("--no-mmap big --derive-key", format!("{derived_big}  big\n")).arg(CONTEXT),
        prints("--derive-key", format!("{derived_foo}  -\n")).arg(CONTEXT).input("foo"),
        // The key is read, so it is the file that cannot be hashed.
        prints("--keyed - foo", format!("{foo}  foo\n")).input(KEY).but(1, "standard input: it holds the key"),
        fails("--keyed", 2, "FILE").input(KEY),
        fails("--keyed foo --derive-key", 2, "--derive-key").arg(CONTEXT).input(KEY),
        fails("--derive-key", 2, "--derive-key"),
    ];
    for len in [0, 1, 31, 33, 100_000] {
        cases.push(fails("--keyed foo", 1, "key bytes").input(vec![0; len]));
    }
    run(&folder(), &cases);
}

#[test]
fn names_with_backslashes_line_ends_and_what_is_not_unicode() {
    let folder = folder();
    let names =
        ["abcdef", "abc\ndef", "abc\\def", "abc\rdef", "abc\r\ndef", "\n", "c/foo", "end\r", "two  spaces", "否认"];
    let shown = [
        "abcdef",
        "\\abc\\ndef",
        "\\abc\\\\def",
        "\\abc\\rdef",
        "\\abc\\r\\ndef",
        "\\\\n",
        "c/foo",
        "\\end\\r",
        "two  spaces",
        "否认",
    ];
    let (mut plain, mut tagged, mut checked, empty) = (String::new(), String::new(), String::new(), of(""));
    for (name, shown) in names.iter().zip(shown) {
        fs::write(folder.path().join(name), "").unwrap();
        let (escape, text) = shown.strip_prefix('\\').map_or(("", shown), |text| ("\\", text));
        writeln!(plain, "{escape}{empty}  {text}").unwrap();
        writeln!(tagged, "{escape}BLAKE3 ({text}) = {empty}").unwrap();
        writeln!(checked, "{shown}: OK").unwrap();
    }
    let invalid = OsStr::from_bytes(b"abc\xffdef");
    fs::write(folder.path().join(invalid), "").unwrap();
    let all = |args: &str, out: &str| names.iter().fold(prints(args, out), |case, name| case.arg(name));
    run(
        &folder,
        &[
            all("", &plain),
            all("--tag", &tagged),
            prints("--check", &checked).input(&plain),
            // `b3sum` splits the line of `two  spaces` at its spaces and fails.
            prints("--check", &checked).input(&tagged),
            prints("--check --quiet", "").input(&plain),
            prints("abcdef", format!("{empty}  abcdef\n{empty}  abc\u{fffd}def\n")).arg(invalid),
            // A name is printed as the list has it.
            prints("--check", "\\abcdef: OK\nabc\\def: OK\n").input(format!("\\{empty}  abcdef\n{empty}  abc\\def\n")),
            prints("--check", "\\no\\n: FAILED (No such file or directory (os error 2))\n")
                .input(format!("\\{empty}  no\\n\n"))
                .but(1, "1 of the files"),
        ],
    );
}

#[test]
fn lists_are_checked() {
    let folder = folder();
    let (a, b, d) = (of("a"), of("b"), of("cd"));
    let plain = format!("{a}  a\n{b}  b\n{d}  c/d\n");
    let tagged = format!("BLAKE3 (a) = {a}\nBLAKE3 (b) = {b}\nBLAKE3 (c/d) = {d}\n");
    let all = "a: OK\nb: OK\nc/d: OK\n";
    for (list, style) in [(&plain, ""), (&tagged, "--tag")] {
        fs::write(folder.path().join("list"), list).unwrap();
        fs::write(folder.path().join("b"), "b").unwrap();
        run(
            &folder,
            &[
                prints(&format!("a b c/d {style}"), list),
                prints("--check", all).input(list),
                prints("-c -", all).input(list),
                prints("--check list list", all.repeat(2)),
                prints("--check --no-mmap --num-threads 1 list", all),
                prints("--check --quiet list", ""),
                prints("--check", all).input(list.replace('\n', "\r\n")),
                prints("--check", all).input(list.trim_end()),
            ],
        );
        fs::write(folder.path().join("b"), "other").unwrap();
        run(
            &folder,
            &[
                prints("--check list", "a: OK\nb: FAILED\nc/d: OK\n").but(1, "1 of the files"),
                prints("--check --quiet list", "b: FAILED\n").but(1, "1 of the files"),
            ],
        );
        fs::remove_file(folder.path().join("b")).unwrap();
        let failed = "b: FAILED (No such file or directory (os error 2))\n";
        run(
            &folder,
            &[
                prints("--check list", format!("a: OK\n{failed}c/d: OK\n")).but(1, "1 of the files"),
                prints("--check --quiet list", failed).but(1, "1 of the files"),
            ],
        );
    }
    run(
        &folder,
        &[
            prints("--check", "").input(""),
            fails("--check missing", 1, "missing: No such file"),
            fails("--quiet a", 2, "--check"),
            fails("--check --keyed list", 2, "--keyed"),
            fails("--check --derive-key x list", 2, "--derive-key"),
            fails("--check --length 32 list", 2, "--length"),
            fails("--check --raw list", 2, "--raw"),
            fails("--check --tag list", 2, "--tag"),
            fails("--check --no-names list", 2, "--no-names"),
        ],
    );
}

/// Each is an error of its own line, and the next line is checked.
#[test]
fn lines_that_cannot_be_checked() {
    let folder = folder();
    let zeros = "0".repeat(64);
    let good = format!("{}  a\n", of("a"));
    let lines: [(String, &str); 21] = [
        ("\n".into(), "not a checksum"),
        ("0\n".into(), "not a checksum"),
        ("00\n".into(), "not a checksum"),
        (format!("{zeros}\n"), "not a checksum"),
        (format!("{zeros}  \n"), "no name"),
        (format!("{zeros} a\n"), "two spaces"),
        (format!("{}  a\n", &zeros[1..]), "64 hexadecimal digits"),
        (format!("{zeros}00  a\n"), "64 hexadecimal digits"),
        (format!("{}  a\n", of("a").to_string().to_uppercase()), "64 hexadecimal digits"),
        (format!("{}  a\n", "x".repeat(64)), "64 hexadecimal digits"),
        ("你好, 我叫杰克. 认识你很高兴. 要不要吃个香蕉?  a\n".into(), "64 hexadecimal digits"),
        ("BLAKE3 (a)\n".into(), "no checksum after the name"),
        (format!("BLAKE3 () = {zeros}\n"), "no name"),
        (format!("\\{zeros}  fo\\o\n"), "escape"),
        (format!("\\{zeros}  \\a\n"), "escape"),
        (format!("\\{zeros}  foo\\\n"), "escape"),
        (format!("{zeros}  \0\n"), "the name has a NUL character"),
        (format!("{zeros}  fo\0o\n"), "the name has a NUL character"),
        (format!("\\{zeros}  \\n\0\n"), "the name has a NUL character"),
        (format!("{zeros}  \u{fffd}\n"), "the name was not Unicode when it was printed"),
        (format!("BLAKE3 (fo\u{fffd}o) = {zeros}\n"), "the name was not Unicode when it was printed"),
    ];
    let cases = lines.map(|(line, why)| {
        prints("--check", "a: OK\n")
            .input(format!("{line}{good}"))
            .but(1, "standard input: line 1 is no checksum: ")
            .but(1, why)
            .but(1, "1 of the files")
    });
    run(&folder, &cases);
    // `b3sum` stops at what is not Unicode.
    let bytes = [b"\xff\xfe\n", good.as_bytes()].concat();
    run(&folder, &[prints("--check", "a: OK\n").input(bytes).but(1, "line 1 is no checksum: not Unicode")]);
}

/// `b3sum` waits for itself forever.
#[test]
fn a_list_and_data_that_are_both_standard_input_are_an_error() {
    let folder = folder();
    let (a, empty) = (of("a"), of(""));
    let list = format!("{empty}  -\n{a}  a\n");
    fs::write(folder.path().join("list"), &list).unwrap();
    let failed = "-: FAILED (it holds a list of checksums, so it is not a file to hash)\n";
    run(
        &folder,
        &[
            prints("--check", format!("{failed}a: OK\n")).input(&list).but(1, "1 of the files"),
            prints("--check - --quiet", failed).input(&list).but(1, "1 of the files"),
            prints("--check", failed).input(format!("BLAKE3 (-) = {empty}")).but(1, "1 of the files"),
            // Also from another list: standard input is consumed, or the next list would be read from it.
            prints("--check list -", format!("{failed}a: OK\n{failed}a: OK\n")).input(&list).but(1, "2 of the files"),
            // If no list is standard input, `-` is data.
            prints("--check list", "-: OK\na: OK\n"),
            prints("--check list", "-: FAILED\na: OK\n").input("something").but(1, "1 of the files"),
        ],
    );
}

/// Runs with a reader of standard output that closes the pipe after one line, long before everything is written.
fn head(folder: &TempDir, args: &[&str], stderr: bool) -> Output {
    let (reader, writer) = std::io::pipe().unwrap();
    let mut command = common::faultin();
    command.arg("sum").args(args).current_dir(folder.path()).stdin(Stdio::null());
    command.stderr(if stderr { writer.try_clone().unwrap().into() } else { Stdio::piped() });
    let child = command.stdout(writer).spawn().unwrap();
    drop(command);
    let mut reader = BufReader::with_capacity(64, reader);
    let mut line = String::new();
    reader.read_line(&mut line).unwrap();
    assert!(!line.is_empty());
    drop(reader);
    common::ended(child, b"")
}

/// Coreutils' convention where SIGPIPE is ignored, as it is in every Rust program: status 1 and a message. (`b3sum` panics.)
#[test]
fn a_reader_that_goes_away_is_an_error() {
    let folder = TempDir::new().unwrap();
    // More lines than a pipe holds.
    let names: Vec<String> = (0..600).map(|number| format!("{number}{}", "x".repeat(240))).collect();
    let mut list = String::new();
    for name in &names {
        fs::write(folder.path().join(name), "").unwrap();
        writeln!(list, "{}  {name}", of("")).unwrap();
    }
    fs::write(folder.path().join("list"), list).unwrap();
    fs::write(folder.path().join("nonsense"), "nonsense\n".repeat(10_000)).unwrap();
    let print: Vec<&str> = names.iter().map(String::as_str).collect();
    let outputs = [
        head(&folder, &["--check", "list"], false),
        head(&folder, &print, false),
        // One line only.
        broken(&folder, &["--raw", &names[0]]),
        broken(&folder, &["--raw", "-l", "1000000", &names[0]]),
        broken(&folder, &["-l", "1000000", &names[0]]),
    ];
    for output in outputs {
        let err = String::from_utf8_lossy(&output.stderr);
        let expected = (Some(1), "faultin sum: standard output: Broken pipe (os error 32)\n");
        assert_eq!((output.status.code(), &*err), expected);
    }
    // The messages' reader does not matter, either.
    assert_eq!(head(&folder, &["--check", "list"], true).status.code(), Some(1));
    assert_eq!(head(&folder, &["--check", "nonsense"], true).status.code(), Some(1));
}

/// Runs with a standard output that is closed from the beginning.
fn broken(folder: &TempDir, args: &[&str]) -> Output {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut command = common::faultin();
    command.arg("sum").args(args).current_dir(folder.path()).stdin(Stdio::null()).stdout(writer).stderr(Stdio::piped());
    common::ended(command.spawn().unwrap(), b"")
}

#[test]
fn a_standard_output_without_space_is_an_error() {
    let folder = folder();
    fs::write(folder.path().join("list"), format!("{}  a\n", of("a"))).unwrap();
    for args in [&["--check", "list"][..], &["a"], &["--raw", "a"], &["--raw", "-l", "100000", "a"]] {
        let mut command = common::faultin();
        command.arg("sum").args(args).current_dir(folder.path()).stdin(Stdio::null()).stderr(Stdio::piped());
        let child = command.stdout(File::options().write(true).open("/dev/full").unwrap()).spawn().unwrap();
        let output = common::ended(child, b"");
        let err = String::from_utf8_lossy(&output.stderr);
        assert_eq!(
            (output.status.code(), &*err),
            (Some(1), "faultin sum: standard output: No space left on device (os error 28)\n")
        );
    }
}
