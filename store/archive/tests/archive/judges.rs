//! Our reader beside others, over archives that were made to be read in two ways: what it accepts, every other reader
//! that accepts it reads as the same entries (row 80 of the security research). What tools disagree about is refused.
//!
//! Judges are the `tar` crate, Python's tarfile and GNU tar. `STRATA_ROUNDS` sets the number of archives.

use crate::tar::{Header, Tar, pax_body, seal};
use sha2::{Digest, Sha256};
use std::io::{Cursor, Read, Write};
use std::process::{Command, Stdio};
use strata_archive::MemberKind;

/// One entry as a reader has it.
#[derive(Clone, PartialEq, Eq)]
struct Item {
    path: Vec<u8>,
    /// As the first letter of `ls -l`; `h` for a hard link.
    kind: char,
    link: Vec<u8>,
    /// Of a file: length and digest of its content.
    content: Option<(u64, String)>,
}

impl std::fmt::Debug for Item {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { path, kind, link, content } = self;
        let content = content.as_ref().map(|(size, digest)| format!("{size} {digest:.6}")).unwrap_or_default();
        write!(f, "{kind} {} {} {content}", path.escape_ascii(), link.escape_ascii())
    }
}

/// What a reader makes of an archive; none if it refuses it.
type Verdict = Option<Vec<Item>>;

/// Seeded: the same archives each time, and each alone by its number.
struct Random(u64);

impl Random {
    fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn next(&mut self) -> u64 {
        // xorshift64*
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() >> 33) as usize % limit
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }

    fn bytes(&mut self, length: usize) -> Vec<u8> {
        (0..length).map(|_| b'a' + self.below(26) as u8).collect()
    }
}

/// An entry of the archive, whole with its extensions.
fn entry(random: &mut Random, number: usize) -> Vec<u8> {
    let length = random.pick(&[0, 1, 5, 511, 512, 513, 1500]);
    let content = random.bytes(length);
    let name = format!("{}{number}", random.pick(&["name-", "d/name-", "./name-", "/name-", "d//name-"]));
    let header = Header { name: name.clone().into(), size: length as u64, ..Header::default() };
    let long = |random: &mut Random| [format!("long-{number}/").into_bytes(), random.bytes(150)].concat();
    let mut tar = Tar::new();
    match random.below(18) {
        0..=3 => tar.header(&header).body(&content).0,
        4 => tar.dir(&format!("{name}{}", random.pick(&["", "/"])), 0o755).0,
        5 => tar.symlink(random.pick(&["target", "/etc/passwd", "../up"]), &name).0,
        6 => tar.link("name-0", &name).0,
        7 => {
            let (flag, device) = (random.pick(b"346"), (1, 3));
            tar.header(&Header { name: name.into(), flag, device, ..Header::default() }).0
        }
        8 => {
            let path = [&long(random)[..], b"\0"].concat();
            tar.extension(b'L', &path).header(&header).body(&content).0
        }
        9 => {
            let path = long(random);
            tar.pax(&[("path", &path), ("mtime", b"1700000000.5")]).header(&header).body(&content).0
        }
        10 => {
            // A size that only PAX knows: whoever does not see it reads the content as entries.
            let inner = Tar::new().file("hidden", "inner").end();
            let size = inner.len().to_string();
            let outer = Header { size: random.pick(&[0, 512, inner.len() as u64]), ..header };
            tar.pax(&[("size", size.as_bytes())]).header(&outer).body(&inner).0
        }
        11 => {
            let mut block = header.block();
            block[124..136].copy_from_slice(&[&[0x80, 0, 0, 0][..], &(length as u64).to_be_bytes()].concat());
            seal(&mut block);
            tar.raw(&block).body(&content).0
        }
        12 => {
            let mut block = header.block();
            let magic: &[u8] = random.pick(&[b"ustar  \0", b"ustar\0\0\0", b"\0\0\0\0\0\0\0\0", b"ustar\x0000"]);
            block[257..265].copy_from_slice(magic);
            block[345..351].copy_from_slice(b"prefix");
            seal(&mut block);
            tar.raw(&block).body(&content).0
        }
        13 => {
            let flag = random.pick(b"gx");
            let records: &[(&str, &[u8])] = &[("comment", b"nothing"), ("uid", b"5"), ("LIBARCHIVE.x", b"y")];
            tar.extension(flag, &pax_body(records)).header(&header).body(&content).0
        }
        14 => {
            let flag = random.pick(b"0\x007");
            tar.header(&Header { flag, ..header }).body(&content).0
        }
        // A body where none belongs.
        15 => {
            let (flag, link) = (random.pick(b"1235"), b"name-0".to_vec());
            tar.header(&Header { flag, link, ..header }).body(&content).0
        }
        16 => {
            let target = [&long(random)[..], b"\0"].concat();
            tar = tar.extension(b'K', &target);
            tar.header(&Header { flag: b'2', link: b"short".to_vec(), size: 0, ..header }).0
        }
        _ => {
            // The same key twice, keys without values, both kinds of long names.
            let path = long(random);
            let first: &[(&str, &[u8])] = &[("path", b"first"), ("path", &path), ("size", b"")];
            tar = tar.pax(first);
            if random.below(2) == 0 {
                tar = tar.extension(b'L', b"other\0");
            }
            tar.header(&header).body(&content).0
        }
    }
}

/// Changes something that readers might see differently.
fn mutate(random: &mut Random, tar: &mut Vec<u8>) {
    let blocks = tar.len() / 512;
    if blocks == 0 {
        return;
    }
    let at = random.below(blocks) * 512;
    match random.below(9) {
        0 => {
            let place = random.below(tar.len());
            tar[place] = random.next() as u8;
        }
        1 => tar.truncate(at + random.pick(&[0, 100, 511])),
        2 => drop(tar.drain(at..at + 512)),
        3 => {
            let copy = tar[at..at + 512].to_vec();
            tar.splice(at..at, copy);
        }
        4 => drop(tar.splice(at..at, [0; 512])),
        // A header that was changed, with a checksum that says it is right.
        kind => {
            let Ok(block) = <&mut [u8; 512]>::try_from(&mut tar[at..at + 512]) else { return };
            let is_header = block[148..154].iter().all(u8::is_ascii_digit);
            if !is_header {
                return;
            }
            match kind {
                5 => block[156] = random.pick(b"01234567LKxgSVMDNAX\0 "),
                6 => {
                    let text = random.pick(&[
                        "00000000000\0",
                        "00000001000\0",
                        "        5 \0 ",
                        "77777777777\0",
                        "5\0\0\0\0\0\0\0\0\0\0\0",
                        "-0000000005\0",
                        "0x000000005\0",
                        "00000000005 ",
                        "            ",
                        "000000000009",
                    ]);
                    block[124..136].copy_from_slice(text.as_bytes());
                }
                7 => {
                    let place = random.below(500);
                    block[place] = random.pick(b"\0 /07.\xff");
                }
                _ => block[257 + random.below(8)] = random.pick(b"\0 u0"),
            }
            seal(block);
        }
    }
}

fn generate(number: usize) -> Vec<u8> {
    let random = &mut Random::new(number as u64 + 1);
    let mut tar: Vec<u8> = (0..=random.below(4)).flat_map(|position| entry(random, position)).collect();
    for _ in 0..random.pick(&[0, 0, 1, 1, 2, 3]) {
        mutate(random, &mut tar);
    }
    let end = random.pick(&[1024, 1024, 1024, 10240, 512, 0]);
    tar.extend(vec![0; end]);
    if random.below(10) == 0 {
        tar.extend(random.bytes(512));
    }
    tar
}

fn digest(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

/// A name without what says nothing: readers keep or drop a slash at the end of a directory's.
fn name(path: &[u8]) -> Vec<u8> {
    let end = path.iter().rposition(|byte| *byte != b'/').map_or(0, |last| last + 1);
    path[..end].to_vec()
}

fn ours(tar: &[u8]) -> Verdict {
    let members = strata_archive::members(Cursor::new(tar), 10_000).ok()?;
    let item = |member: strata_archive::Member| {
        let (kind, link) = match member.kind {
            MemberKind::File => ('-', Vec::new()),
            MemberKind::Directory => ('d', Vec::new()),
            MemberKind::Symlink(target) => ('l', target),
            MemberKind::Link(target) => ('h', target),
            MemberKind::Special => ('s', Vec::new()),
        };
        let start = member.offset as usize;
        let content = (kind == '-').then(|| (member.size, digest(&tar[start..start + member.size as usize])));
        Item { path: name(&member.path), kind, link, content }
    };
    Some(members.into_iter().map(item).collect())
}

/// A long name as C reads it: the crate takes off one NUL.
fn c_text(bytes: &[u8]) -> Vec<u8> {
    bytes.split(|byte| *byte == 0).next().unwrap_or_default().to_vec()
}

/// The `tar` crate, which most Rust programs read archives with.
fn of_the_crate(tar: &[u8]) -> Verdict {
    let mut archive = tar::Archive::new(tar);
    let mut items = Vec::new();
    for entry in archive.entries().ok()? {
        let mut entry = entry.ok()?;
        let found = entry.header().entry_type();
        let kind = match found {
            kind if kind.is_dir() => 'd',
            kind if kind.is_symlink() => 'l',
            kind if kind.is_hard_link() => 'h',
            kind if kind.is_fifo() || kind.is_character_special() || kind.is_block_special() => 's',
            kind if kind.is_file() || kind.is_contiguous() => '-',
            // Ours to be skipped or refused; the crate leaves it to its caller.
            kind if kind.as_byte() == b'V' => continue,
            _ => return None,
        };
        let path = c_text(&entry.path_bytes());
        // Its caller decides that, too: an old archive's directory.
        let kind = if kind == '-' && path.ends_with(b"/") { 'd' } else { kind };
        let link = match kind {
            'l' | 'h' => c_text(&entry.link_name_bytes()?),
            _ => Vec::new(),
        };
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).ok()?;
        if kind == '-' && bytes.len() as u64 != entry.size() {
            return None;
        }
        let content = (kind == '-').then(|| (bytes.len() as u64, digest(&bytes)));
        items.push(Item { path: name(&path), kind, link, content });
    }
    Some(items)
}

/// Reads length-prefixed archives, writes for each a line: "refused", or the fields of its entries in hex.
const PYTHON: &str = r#"
import sys, io, tarfile, hashlib
source, out = sys.stdin.buffer, sys.stdout
raw = lambda text: text.encode("utf-8", "surrogateescape").hex()
while head := source.read(4):
    data = source.read(int.from_bytes(head, "big"))
    try:
        items = []
        with tarfile.open(fileobj=io.BytesIO(data), mode="r:", encoding="utf-8", errors="surrogateescape") as tar:
            for member in tar:
                if member.type == b"V":
                    continue
                kind = ("h" if member.islnk() else "l" if member.issym() else "d" if member.isdir() else
                        "-" if member.isreg() else "s" if member.isdev() else "?")
                size, digest = "", ""
                if kind == "-":
                    content = tar.extractfile(member).read()
                    if len(content) != member.size:
                        raise ValueError("short")
                    size, digest = str(len(content)), hashlib.sha256(content).hexdigest()
                link = raw(member.linkname) if kind in "hl" else ""
                items.append(":".join([raw(member.name), kind, link, size, digest]))
        print(" ".join(["read"] + items))
    except Exception as error:
        print("refused")
"#;

fn of_python(archives: &[Vec<u8>]) -> Vec<Verdict> {
    let mut child = Command::new("python3")
        .args(["-c", PYTHON])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("python3 is one of the packages of the tests");
    let mut input = child.stdin.take().expect("piped");
    let output = std::thread::scope(|scope| {
        scope.spawn(move || {
            for tar in archives {
                input.write_all(&(tar.len() as u32).to_be_bytes()).expect("python reads");
                input.write_all(tar).expect("python reads");
            }
        });
        child.wait_with_output().expect("python ends")
    });
    let text = String::from_utf8(output.stdout).expect("hex");
    let verdicts: Vec<Verdict> = text.lines().map(python_line).collect();
    assert_eq!(verdicts.len(), archives.len(), "python answers for every archive");
    verdicts
}

fn python_line(line: &str) -> Verdict {
    let mut words = line.split(' ');
    if words.next() == Some("refused") {
        return None;
    }
    let item = |word: &str| {
        let fields: Vec<&str> = word.split(':').collect();
        let [path, kind, link, size, digest] = fields[..] else { panic!("five fields: {word}") };
        let path = hex::decode(path).expect("hex");
        // Of old archives it knows only one of two forms.
        let (kind, size) = if kind == "-" && size == "0" && path.ends_with(b"/") { ("d", "") } else { (kind, size) };
        let content = (!size.is_empty()).then(|| (size.parse().expect("a number"), digest.to_owned()));
        let kind = kind.chars().next().expect("one letter");
        Item { path: name(&path), kind, link: hex::decode(link).expect("hex"), content }
    };
    Some(words.map(item).collect())
}

/// GNU tar lists names, types and sizes.
fn of_gnu(tar: &[u8]) -> Verdict {
    let mut child = Command::new("tar")
        .args(["-tvPf", "-", "--numeric-owner", "--quoting-style=c", "--warning=no-timestamp"])
        .env("LC_ALL", "C")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("tar runs");
    // It may stop reading at the end that it sees.
    let _ = child.stdin.take().expect("piped").write_all(tar);
    let output = child.wait_with_output().expect("tar ends");
    if !output.status.success() {
        return None;
    }
    let text = String::from_utf8(output.stdout).expect("names are quoted");
    Some(text.lines().filter(|line| !line.starts_with('V')).map(gnu_line).collect())
}

/// `-rw-r--r-- 0/0 5 2023-11-14 22:13 "name" link to "other"`.
fn gnu_line(line: &str) -> Item {
    let kind = match line.chars().next().expect("a mode") {
        'b' | 'c' | 'p' => 's',
        'C' => '-',
        kind => kind,
    };
    let quoted = line.find('"').expect("a name");
    let (path, rest) = unquote(&line[quoted + 1..]);
    let link = rest.find('"').filter(|_| matches!(kind, 'l' | 'h')).map(|at| unquote(&rest[at + 1..]).0);
    let size = line[..quoted].split_whitespace().nth(2).expect("a size");
    let content = (kind == '-').then(|| (size.parse().expect("a number"), String::new()));
    Item { path: name(&path), kind, link: link.unwrap_or_default(), content }
}

/// Reads a string as C quotes it, up to its end; returns what follows.
fn unquote(text: &str) -> (Vec<u8>, &str) {
    let (bytes, mut found, mut at) = (text.as_bytes(), Vec::new(), 0);
    while bytes[at] != b'"' {
        if bytes[at] != b'\\' {
            found.push(bytes[at]);
            at += 1;
            continue;
        }
        at += 1;
        if bytes[at].is_ascii_digit() {
            let number = std::str::from_utf8(&bytes[at..at + 3]).expect("three digits");
            found.push(u8::from_str_radix(number, 8).expect("octal"));
            at += 3;
            continue;
        }
        let known = [(b'n', b'\n'), (b't', b'\t'), (b'r', b'\r'), (b'a', 7), (b'b', 8), (b'v', 11), (b'f', 12)];
        found.push(known.iter().find(|(letter, _)| *letter == bytes[at]).map_or(bytes[at], |(_, byte)| *byte));
        at += 1;
    }
    (found, &text[at + 1..])
}

/// What looks like headers in an archive, for failures.
fn outline(tar: &[u8]) -> String {
    let blocks = tar.chunks(512).map(|block| {
        let field = |range: std::ops::Range<usize>| block.get(range).unwrap_or_default().escape_ascii().to_string();
        match block.iter().all(|byte| *byte == 0) {
            true => "\n  zeroes".to_owned(),
            false => format!(
                "\n  {} {:.30} size {} magic {}",
                field(156..157),
                field(0..100),
                field(124..136),
                field(257..265)
            ),
        }
    });
    blocks.collect()
}

fn without_digests(items: &[Item]) -> Vec<Item> {
    let plain = |item: &Item| {
        let content = item.content.as_ref().map(|(size, _)| (*size, String::new()));
        Item { content, ..item.clone() }
    };
    items.iter().map(plain).collect()
}

#[test]
fn what_our_reader_accepts_others_read_as_the_same_entries() {
    let rounds = std::env::var("STRATA_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(1000_usize);
    let archives: Vec<Vec<u8>> = (0..rounds).map(generate).collect();
    let python = of_python(&archives);
    let (mut accepted, mut compared, mut different) = (0, [0; 3], Vec::new());

    for (number, tar) in archives.iter().enumerate() {
        let Some(ours) = ours(tar) else { continue };
        accepted += 1;
        let judges = [("tar crate", of_the_crate(tar)), ("Python", python[number].clone()), ("GNU tar", of_gnu(tar))];
        for (index, (judge, verdict)) in judges.into_iter().enumerate() {
            let Some(theirs) = verdict else { continue };
            compared[index] += 1;
            let ours = if judge == "GNU tar" { without_digests(&ours) } else { ours.clone() };
            if ours != theirs {
                let outline = outline(tar);
                different.push(format!("archive {number}, {judge}:{outline}\n  ours   {ours:?}\n  theirs {theirs:?}"));
            }
        }
    }

    assert!(
        different.is_empty(),
        "{} differences, the first of them:\n{}",
        different.len(),
        different[..different.len().min(12)].join("\n")
    );
    // Of archives that are mostly damaged a good part is still read, by all.
    assert!(accepted > rounds / 4 && accepted < rounds, "{accepted} of {rounds} were accepted");
    assert!(compared.iter().all(|count| *count > accepted / 2), "{compared:?} of {accepted} were compared");
}
