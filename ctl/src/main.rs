//! `ctl`: reads the command line, calls the services, shows what they say.

mod args;
mod build;
mod change;
mod command;
mod completion;
mod contexts;
mod docker;
mod error;
mod explore;
mod filter;
mod full_screen;
mod input;
mod moment;
mod mounts;
mod platform;
mod receiving;
mod registries;
mod render;
mod sending;
mod settings;
mod streams;
mod suggest;
mod template;
mod terminal;
mod tls;
mod tunnel;
mod ui;
mod usage;

use std::io::IsTerminal;
use std::process::ExitCode;

use clap::Parser;
use strata_rpc::spans;

use crate::args::{Cli, Command};
use crate::error::{Error, Result, STRATA_FAILED};
use crate::platform::Choice;

fn main() -> ExitCode {
    completion::answer();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli.canonical(),
        Err(error) => {
            let error = usage::explain(error, std::env::args_os());
            error.print();
            return error.code.into();
        }
    };
    if let Some(level) = cli.log_level() {
        strata_rpc::trace::init(level);
    }
    if let Some(directory) = &cli.config {
        contexts::choose_directory(directory.clone());
    }
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            Error::of(&error).print();
            return STRATA_FAILED.into();
        }
    };
    let words = std::env::args().skip(1).collect::<Vec<_>>();
    let result = runtime.block_on(spanned(&words, run(cli)));
    // A read of standard input that still waits must not hold up the end.
    runtime.shutdown_background();
    match result {
        Ok(code) => code.into(),
        Err(error) => {
            error.print();
            error.code.into()
        }
    }
}

/// Does a command as the first part of a trace, where somebody collects traces.
async fn spanned(words: &[String], command: impl Future<Output = Result<u8>>) -> Result<u8> {
    let path = strata_rpc::paths::shared_config();
    let configured = spans::Config::load(&path).map_err(|error| Error::of(&error))?;
    spans::start("ctl", &configured).map_err(|error| Error::of(&error))?;
    // Who started this may have one of his own.
    let above = std::env::var("TRACEPARENT").ok().and_then(|text| spans::Place::parse(&text));
    // What the command is called takes a moment to find out.
    let name = spans::are_sent().then(|| usage::command_of(words));
    let Some(mut span) = name.and_then(|name| spans::Span::begin(name, spans::otlp::Kind::Client, above)) else {
        return spans::within(above, command).await;
    };
    let done = spans::within(Some(span.place()), command).await;
    let code = done.as_ref().map_or_else(|error| error.code, |code| *code);
    span.note("process.exit.code", code.to_string());
    if code != 0 {
        span.fail(format!("exit code {code}"));
    }
    drop(span);
    spans::flush(std::time::Duration::from_secs(1)).await;
    done
}

/// Runs the command; Ctrl-C ends what does not take signals itself, and the services clean up behind it.
async fn run(cli: Cli) -> Result<u8> {
    let is_taking_signals = match &cli.command {
        Command::Attach(_) | Command::Build(_) | Command::Ui => true,
        Command::Run(run) => !run.detach,
        Command::Exec(exec) => !exec.detach,
        Command::Start(start) => start.attach || start.interactive,
        _ => false,
    };
    let choice = Choice { context: cli.context.clone(), host: cli.host.clone() };
    let work = suggest::within(choice.clone(), async {
        match dispatch(cli, &choice).await {
            Err(error) => Err(suggest::complete(error).await),
            done => done,
        }
    });
    if is_taking_signals {
        return work.await;
    }
    tokio::select! {
        result = work => result,
        interrupted = tokio::signal::ctrl_c() => match interrupted {
            Ok(()) => {
                // The prompt does not continue the line with ^C.
                if std::io::stderr().is_terminal() {
                    render::note("");
                }
                Err(Error::silent(130))
            }
            Err(error) => Err(Error::of(&error)),
        },
    }
}

async fn dispatch(cli: Cli, choice: &Choice) -> Result<u8> {
    let open = || choice.open();
    match &cli.command {
        Command::Context(command) => command::context::run(command, choice),
        Command::Tls(args::Tls::Init(args)) => tls::init(args).map(|()| 0),
        Command::Attach(args) => command::attach::run(&open()?, args).await,
        Command::Tls(args::Tls::Issue(args)) => tls::issue(args).map(|()| 0),
        Command::Build(args) => build::run(&open()?, args).await,
        Command::Builder(args::Builder::Cache(args)) => command::cache::run(&open()?, args).await,
        Command::Builder(args::Builder::Du(args)) => command::builder::du(&open()?, args).await,
        Command::Builder(args::Builder::Prune(args)) => command::builder::prune(&open()?, args).await,
        Command::Commit(args) => command::commit::run(&open()?, args).await,
        Command::Container(args::Container::Mount(args)) => command::container::mount(&open()?, args).await,
        Command::Container(args::Container::Prune(args)) => command::prune::containers(&open()?, args).await,
        Command::Container(args::Container::Publish(args)) => command::port::publish(&open()?, args).await,
        Command::Container(args::Container::Unmount(args)) => command::container::unmount(&open()?, args).await,
        Command::Container(args::Container::Unpublish(args)) => command::port::unpublish(&open()?, args).await,
        Command::Completion(args) => completion::script(args.shell),
        Command::Config(args) => command::config::run(args),
        Command::Cp(args) => command::cp::run(&open()?, args).await,
        Command::Create(args) => command::run::create(&open()?, args).await,
        Command::Diff(args) => command::diff::run(&open()?, args).await,
        Command::Doctor(args) => command::doctor::run(&open()?, args).await,
        Command::Events(args) | Command::System(args::System::Events(args)) => {
            command::events::run(&open()?, args).await
        }
        Command::Export(args) => command::export::run(&open()?, args).await,
        Command::Exec(args) => command::exec::run(&open()?, args).await.map_err(Error::in_run),
        Command::History(args) => command::history::run(&open()?, args).await,
        Command::Image(args::Image::Cp(args)) => command::copy::run(choice, args).await,
        Command::Image(args::Image::Explore(args)) => command::explore::run(&open()?, args).await,
        Command::Image(args::Image::Prune(args)) => command::prune::images(&open()?, args).await,
        Command::Builder(args::Builder::Build(_)) | Command::Container(_) | Command::Image(_) => {
            unreachable!("a canonical command has its own name")
        }
        Command::Images(args) => command::images::run(&open()?, args).await,
        Command::Import(args) => command::import::run(&open()?, args).await,
        Command::Info(args) | Command::System(args::System::Info(args)) => command::info::run(&open()?, args).await,
        Command::Inspect(args) => command::inspect::run(&open()?, args).await,
        Command::Kill(args) => command::kill::run(&open()?, args).await,
        Command::Load(args) => command::load::run(&open()?, args).await,
        Command::Login(args) => command::login::run(&open()?, args).await,
        Command::Logout(args) => command::logout::run(args).await,
        Command::Logs(args) => command::logs::run(&open()?, args).await,
        Command::Man(args) => command::man::run(args),
        Command::Manifest(args) => command::manifest::run(&open()?, args).await,
        Command::Network(args) => command::network::run(&open()?, args).await,
        Command::Pause(args) => command::pause::pause(&open()?, args).await,
        Command::Port(args) => command::port::run(&open()?, args).await,
        Command::Ps(args) => command::ps::run(&open()?, args).await,
        Command::Pull(args) => command::pull::run(&open()?, args).await,
        Command::Push(args) => command::push::run(&open()?, args).await,
        Command::Rename(args) => command::rename::run(&open()?, args).await,
        Command::Restart(args) => command::restart::run(&open()?, args).await,
        Command::Rm(args) => command::rm::run(&open()?, args).await,
        Command::Rmi(args) => command::rmi::run(&open()?, args).await,
        Command::Run(args) => command::run::run(&open().map_err(Error::in_run)?, args).await,
        Command::Save(args) => command::save::run(&open()?, args).await,
        Command::Search(args) => command::search::run(&open()?, args).await,
        Command::Secret(args) => command::secret::run(&open()?, args).await,
        Command::Start(args) => command::start::run(&open()?, args).await,
        Command::Stats(args) => command::stats::run(&open()?, args).await,
        Command::Stop(args) => command::stop::run(&open()?, args).await,
        Command::System(args::System::Df(args)) => command::df::run(&open()?, args).await,
        Command::System(args::System::DialStdio { service }) => command::dial::run(*service).await,
        Command::System(args::System::Audit(args::Audit::Verify(args))) => command::audit::verify(&open()?, args).await,
        Command::System(args::System::Verify) => command::verify::run(&open()?).await,
        Command::System(args::System::Prune(args)) => command::prune::run(&open()?, args).await,
        Command::System(args::System::Reset(args)) => command::reset::run(&open()?, args).await,
        Command::Tag(args) => command::tag::run(&open()?, args).await,
        Command::Top(args) => command::top::run(&open()?, args).await,
        Command::Ui => ui::run(choice).await,
        Command::Unpause(args) => command::pause::unpause(&open()?, args).await,
        Command::Update(args) => command::update::run(&open()?, args).await,
        Command::Version(args) => command::version::run(&open()?, args).await,
        Command::Volume(args) => command::volume::run(&open()?, args).await,
        Command::Wait(args) => command::wait::run(&open()?, args).await,
    }
}
