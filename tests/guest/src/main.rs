//! The guest of the tests: one static program that does what a test asks for inside a container, and prints what it sees.
//! There is no shell beside it; each subcommand does one thing, and a failure is exit code 99 with the reason on standard error.

use std::{
    env, fs,
    io::{self, IsTerminal, Read, Write},
    os::unix::{
        ffi::OsStrExt,
        fs::{FileTypeExt, MetadataExt, PermissionsExt},
    },
    path::Path,
    process::{Command, Stdio, exit},
    thread,
    time::{Duration, Instant},
};

use nix::sys::{
    signal::{SigSet, Signal, kill},
    signalfd::SignalFd,
};
use rustix::fs::{CWD, RenameFlags};

mod floor;
mod network;

type Outcome = Result<i32, Box<dyn std::error::Error>>;

fn main() {
    let args: Vec<String> = env::args().collect();
    let words: Vec<&str> = args.iter().skip(1).map(String::as_str).collect();
    match act(&words) {
        Ok(code) => exit(code),
        Err(err) => {
            eprintln!("guest: {words:?}: {err}");
            exit(99)
        }
    }
}

fn act(words: &[&str]) -> Outcome {
    match words {
        ["noop"] => {}
        ["exit", code] => return Ok(code.parse()?),
        ["signal", number] => {
            kill(nix::unistd::getpid(), Signal::try_from(number.parse::<i32>()?)?)?;
            // A first process of a pid namespace is not killed by what it did not ask for.
            return Ok(98);
        }
        ["args", rest @ ..] => rest.iter().for_each(|word| println!("{word}")),
        ["echo", rest @ ..] => println!("{}", rest.join(" ")),
        ["say", out, err] => {
            println!("{out}");
            eprintln!("{err}");
        }
        ["env"] => env::vars_os().for_each(|(key, value)| println!("{}={}", key.display(), value.display())),
        ["cwd"] => println!("{}", env::current_dir()?.display()),
        ["pid"] => println!("{}", std::process::id()),
        ["id"] => id()?,
        ["hostname"] => println!("{}", nix::unistd::gethostname()?.display()),
        ["status", field] => println!("{}", status(field)?),
        ["caps"] => {
            for field in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs", "Seccomp"] {
                println!("{field} {}", status(field)?);
            }
        }
        ["mounts"] => print!("{}", fs::read_to_string("/proc/self/mountinfo")?),
        ["interfaces"] => list(Path::new("/sys/class/net"))?,
        ["tty"] => tty()?,
        ["masked"] => return masked(),
        ["processes"] => processes()?,
        _ => return files(words),
    }
    Ok(0)
}

fn files(words: &[&str]) -> Outcome {
    match words {
        ["write", path, text] => fs::write(path, text)?,
        ["append", path, text] => {
            fs::OpenOptions::new().append(true).create(true).open(path)?.write_all(text.as_bytes())?
        }
        ["read", path] => io::stdout().write_all(&fs::read(path)?)?,
        ["cat"] => {
            io::copy(&mut io::stdin(), &mut io::stdout())?;
        }
        ["ls", path] => list(Path::new(path))?,
        ["stat", paths @ ..] => paths.iter().try_for_each(|path| stat(path))?,
        ["mkdir", path] => fs::create_dir_all(path)?,
        ["rm", path] if fs::symlink_metadata(path)?.is_dir() => fs::remove_dir_all(path)?,
        ["rm", path] => fs::remove_file(path)?,
        ["rename", from, to] => fs::rename(from, to)?,
        ["link", target, path] => std::os::unix::fs::symlink(target, path)?,
        ["chmod", mode, path] => fs::set_permissions(path, fs::Permissions::from_mode(u32::from_str_radix(mode, 8)?))?,
        ["chown", uid, gid, path] => std::os::unix::fs::chown(path, Some(uid.parse()?), Some(gid.parse()?))?,
        ["exists", path] => return Ok(i32::from(fs::symlink_metadata(path).is_err())),
        // As many bytes as asked for, of a kind that does not compress to nothing.
        ["fill", path, bytes] => fill(path, bytes.parse()?)?,
        // The bytes that a file system says it has, in all.
        ["room", path] => {
            let found = rustix::fs::statvfs(*path)?;
            println!("{}", found.f_blocks * found.f_frsize);
        }
        _ => return work(words),
    }
    Ok(0)
}

fn work(words: &[&str]) -> Outcome {
    match words {
        // Waits until somebody else makes it.
        ["await", path] => {
            let start = Instant::now();
            while fs::symlink_metadata(path).is_err() {
                if start.elapsed() > Duration::from_secs(60) {
                    return Err("nobody made it".into());
                }
                thread::sleep(Duration::from_millis(10));
            }
        }
        // Exchanges two names all the time, until somebody makes a third.
        ["exchange", one, other, end] => {
            while fs::symlink_metadata(end).is_err() {
                for _ in 0..1000 {
                    rustix::fs::renameat_with(CWD, *one, CWD, *other, RenameFlags::EXCHANGE)?;
                }
            }
        }
        ["agent", kind] => agent(kind.parse()?)?,
        ["sleep", seconds] => thread::sleep(Duration::from_secs_f64(seconds.parse()?)),
        // Prints "ready", waits for one of the signals, prints its name, exits with the code.
        ["trap", code, signals @ ..] => {
            let mut set = SigSet::empty();
            for name in signals {
                set.add(name.parse()?);
            }
            set.thread_block()?;
            say("ready")?;
            println!("{}", set.wait()?);
            return Ok(code.parse()?);
        }
        // Never ends of its own will.
        ["stubborn"] => {
            SigSet::all().thread_block()?;
            say("ready")?;
            loop {
                thread::sleep(Duration::from_secs(3600));
            }
        }
        ["spam", lines] => {
            let mut out = io::BufWriter::new(io::stdout().lock());
            for number in 0..lines.parse::<u64>()? {
                writeln!(out, "line {number}")?;
            }
            out.flush()?;
        }
        // Lines of so many bytes with their ends, each its number.
        ["lines", number, bytes] => {
            let width = bytes.parse::<usize>()?.saturating_sub(1);
            let mut out = io::BufWriter::with_capacity(64 << 10, io::stdout().lock());
            for number in 0..number.parse::<u64>()? {
                writeln!(out, "{number:0width$}")?;
            }
            out.flush()?;
        }
        // Never ends of its own will.
        ["flood"] => loop {
            io::stdout().write_all(&b"as much as goes into it, and a line's end\n".repeat(100))?;
        },
        ["tick", times, millis] => {
            for number in 0..times.parse::<u64>()? {
                say(&format!("tick {number}"))?;
                thread::sleep(Duration::from_millis(millis.parse()?));
            }
        }
        // Counts on both streams until somebody makes a file.
        ["count", end, code] => return count(Path::new(end), code.parse()?),
        // Prints "ready", then the number of every signal that comes, and never ends of its own will.
        ["heed"] => heed()?,
        ["serve", port] => network::serve(port.parse()?)?,
        ["serve", address, port] => network::serve_at(address, port.parse()?)?,
        ["echo-streams", port] => network::echo(port.parse()?)?,
        ["talk", address, port] => network::talk(address, port.parse()?)?,
        ["ask", address, port] => network::ask(address, port.parse()?)?,
        ["serve-udp", port] => network::serve_datagrams(port.parse()?)?,
        ["ask-udp", address, port] => network::ask_datagrams(address, port.parse()?)?,
        ["ask-often", address, port, times] => network::ask_often(address, port.parse()?, times.parse()?)?,
        ["look-ups", name, times] => network::look_ups(name, times.parse()?)?,
        ["look-up", name, kind] => network::look_up(name, kind)?,
        ["name-server", address] => network::name_server(address)?,
        ["memhog", mebibytes] => memhog(mebibytes.parse()?),
        ["spin", millis] => spin(Duration::from_millis(millis.parse()?))?,
        ["fork", number] => return fork(number.parse()?),
        ["then", rest @ ..] => return then(rest),
        ["floor", root, name, program, rest @ ..] => return floor::run(Path::new(root), name, program, rest),
        ["peak", program, rest @ ..] => return peak(program, rest),
        [] => return Err("no subcommand".into()),
        _ => return Err("unknown subcommand".into()),
    }
    Ok(0)
}

/// Several subcommands, separated by "+": the first that fails decides.
fn then(words: &[&str]) -> Outcome {
    for part in words.split(|word| *word == "+") {
        let code = act(part)?;
        if code != 0 {
            return Ok(code);
        }
    }
    Ok(0)
}

fn say(line: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{line}")?;
    out.flush()
}

/// Some thousand lines of a hundred bytes a second.
fn count(end: &Path, code: i32) -> Outcome {
    const BLOCK: u64 = 20;
    let mut number = 0;
    while fs::symlink_metadata(end).is_err() {
        let lines: String = (number..number + BLOCK).map(|number| format!("line {number:>94}\n")).collect();
        io::stdout().write_all(lines.as_bytes())?;
        number += BLOCK;
        eprintln!("block {}", number / BLOCK);
        thread::sleep(Duration::from_millis(10));
    }
    say(&format!("counted {number}"))?;
    Ok(code)
}

fn heed() -> Result<(), Box<dyn std::error::Error>> {
    let all = SigSet::all();
    all.thread_block()?;
    let signals = SignalFd::new(&all)?;
    say("ready")?;
    loop {
        if let Some(signal) = signals.read_signal()? {
            say(&format!("signal {}", signal.ssi_signo))?;
        }
    }
}

fn id() -> Result<(), Box<dyn std::error::Error>> {
    let mut groups: Vec<u32> = nix::unistd::getgroups()?.iter().map(|gid| gid.as_raw()).collect();
    groups.sort_unstable();
    let groups: Vec<String> = groups.iter().map(u32::to_string).collect();
    println!("uid {} gid {} groups {}", nix::unistd::getuid(), nix::unistd::getgid(), groups.join(","));
    Ok(())
}

fn status(field: &str) -> Result<String, Box<dyn std::error::Error>> {
    let text = fs::read_to_string("/proc/self/status")?;
    let line = text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    Ok(line.ok_or("no such field")?.trim().to_owned())
}

/// What the arguments and environments are of every process and thread that can be seen, a line each.
fn processes() -> io::Result<()> {
    let numbers = |path: &Path| {
        let is_number =
            |path: &std::path::PathBuf| path.file_name().is_some_and(|name| name.as_bytes()[0].is_ascii_digit());
        let paths: Result<Vec<_>, _> = fs::read_dir(path)?.map(|entry| entry.map(|entry| entry.path())).collect();
        paths.map(|paths| paths.into_iter().filter(is_number).collect::<Vec<_>>())
    };
    for process in numbers(Path::new("/proc"))? {
        for place in numbers(&process.join("task"))?.into_iter().chain([process.clone()]) {
            for file in ["cmdline", "environ"] {
                let path = place.join(file);
                let shown = match fs::read(&path) {
                    Ok(bytes) => String::from_utf8_lossy(&bytes).replace(char::is_control, " "),
                    Err(err) => err.to_string(),
                };
                println!("{}: {shown}", path.display());
            }
        }
    }
    Ok(())
}

fn list(path: &Path) -> io::Result<()> {
    let mut names: Vec<_> =
        fs::read_dir(path)?.map(|entry| entry.map(|entry| entry.file_name())).collect::<Result<_, _>>()?;
    names.sort();
    for name in names {
        io::stdout().write_all(name.as_bytes())?;
        println!();
    }
    Ok(())
}

fn stat(path: &str) -> io::Result<()> {
    let meta = fs::symlink_metadata(path)?;
    let kind = meta.file_type();
    let kind = match () {
        () if kind.is_dir() => "directory".to_owned(),
        () if kind.is_symlink() => format!("link to {}", fs::read_link(path)?.display()),
        () if kind.is_char_device() => "character device".to_owned(),
        () if kind.is_fifo() => "fifo".to_owned(),
        () if kind.is_file() => format!("file of {}", meta.len()),
        () => "other".to_owned(),
    };
    println!("{path}: {kind} {:o} {}:{}", meta.mode() & 0o7777, meta.uid(), meta.gid());
    Ok(())
}

fn tty() -> Result<(), Box<dyn std::error::Error>> {
    println!(
        "stdin {} stdout {} stderr {}",
        io::stdin().is_terminal(),
        io::stdout().is_terminal(),
        io::stderr().is_terminal()
    );
    if io::stdin().is_terminal() {
        let size = rustix::termios::tcgetwinsize(io::stdin())?;
        println!("{} rows {} columns", size.ws_row, size.ws_col);
        println!("{}", rustix::termios::ttyname(io::stdin(), Vec::new())?.to_string_lossy());
    }
    Ok(())
}

/// What Docker hides: reads give nothing, writes are refused.
fn masked() -> Outcome {
    let mut wrong = 0;
    for path in ["/proc/kcore", "/proc/keys", "/proc/timer_list", "/proc/sched_debug", "/proc/scsi", "/sys/firmware"] {
        let Ok(meta) = fs::metadata(path) else { continue };
        let shows = if meta.is_dir() {
            fs::read_dir(path)?.count()
        } else {
            let mut bytes = vec![0; 64];
            fs::File::open(path).and_then(|mut file| file.read(&mut bytes)).unwrap_or(0)
        };
        println!("{path}: {shows}");
        wrong += i32::from(shows != 0);
    }
    for path in [
        "/proc/sysrq-trigger",
        "/proc/sys/kernel/core_pattern",
        "/proc/irq/default_smp_affinity",
        "/sys/kernel/profiling",
    ] {
        if fs::symlink_metadata(path).is_ok() && fs::OpenOptions::new().write(true).open(path).is_ok() {
            println!("{path}: may be written");
            wrong += 1;
        }
    }
    Ok(wrong)
}

fn fill(path: &str, bytes: u64) -> io::Result<()> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut file = io::BufWriter::with_capacity(1 << 20, fs::File::create(path)?);
    for _ in 0..bytes / 8 {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        file.write_all(&state.to_le_bytes())?;
    }
    file.flush()
}

fn memhog(mebibytes: usize) {
    let mut hoard = Vec::new();
    for _ in 0..mebibytes {
        let mut page = vec![0_u8; 1 << 20];
        page.iter_mut().step_by(4096).for_each(|byte| *byte = 1);
        hoard.push(std::hint::black_box(page));
    }
    println!("held {} MiB", hoard.len());
}

/// Asks the agent of ssh something and prints what kind of answer came, and the answer.
fn agent(kind: u8) -> Result<(), Box<dyn std::error::Error>> {
    let mut stream = std::os::unix::net::UnixStream::connect(env::var("SSH_AUTH_SOCK")?)?;
    stream.write_all(&[0, 0, 0, 1, kind])?;
    let mut length = [0; 4];
    stream.read_exact(&mut length)?;
    let mut answer = vec![0; u32::from_be_bytes(length) as usize];
    stream.read_exact(&mut answer)?;
    let text = String::from_utf8_lossy(&answer[1..]).replace(char::is_control, ".");
    println!("answer {} of {} bytes: {text}", answer[0], answer.len());
    Ok(())
}

/// Works for so long by the clock and says how much processor time it got.
fn spin(time: Duration) -> io::Result<()> {
    let start = Instant::now();
    let mut sum = 0_u64;
    while start.elapsed() < time {
        for number in 0..10_000_u64 {
            sum = std::hint::black_box(sum.wrapping_mul(31).wrapping_add(number));
        }
    }
    let used = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    say(&format!("{}", used.tv_sec * 1000 + used.tv_nsec / 1_000_000))
}

/// Runs a program and says how many KiB it, or one that it waited for, had in memory at most. Started by a larger process
/// than this one, it would inherit that one's maximum.
fn peak(program: &str, words: &[&str]) -> Outcome {
    let status = Command::new(program).args(words).status()?;
    let usage = nix::sys::resource::getrusage(nix::sys::resource::UsageWho::RUSAGE_CHILDREN)?;
    say(&format!("peak {}", usage.max_rss()))?;
    Ok(status.code().unwrap_or(98))
}

/// Starts so many sleepers at once and says how many there were.
fn fork(number: usize) -> Outcome {
    let mut children = Vec::new();
    for _ in 0..number {
        match Command::new("/proc/self/exe").args(["sleep", "30"]).stdin(Stdio::null()).spawn() {
            Ok(child) => children.push(child),
            Err(err) => {
                println!("{} then {err}", children.len());
                break;
            }
        }
    }
    let made = children.len();
    for child in &mut children {
        child.kill()?;
        child.wait()?;
    }
    println!("made {made}");
    Ok(i32::from(made < number))
}
