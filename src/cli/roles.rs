//! The long-running roles of this binary: control plane, node agent, worker process.
//!
//! This is where the crates are wired together: the control plane gets its HTTP API and is announced in the home
//! folder, the worker process gets the workloads that are built in.

use std::error::Error;
use std::fs::{self, File};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::AsFd;
use std::path::Path;
use std::time::{Duration, Instant};

use neap_agent::AgentSettings;
use neap_control::{Config, ControlPlane, Settings};
use neap_runtime::workload::run_worker;
use neap_scheduler::model::NodeSize;
use tokio::net::TcpListener;
use tokio::net::unix::pipe;
use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;

use crate::home::{Endpoint, Home, HomeError};
use crate::http::body::ShutdownBody;
use crate::http::{self, Api};
use crate::program::Program;

use super::Shell;
use super::args::{AgentArgs, ControlArgs};
use super::exit::{CliError, Exit};

/// Threads that carry the actors and connections of the control plane and of agents.
const RUNTIME_THREADS: usize = 2;

/// Threads that carry those of a worker, which computes on threads of its own. With a second one, messages and tensors wake
/// threads on other cores: a call behind a 64 MiB tensor took 5.5 ms at the 99th percentile instead of 3.3, and a step of two
/// trainers and a server 16 ms of processor time instead of 14 (docs/benchmarks.md).
const WORKER_RUNTIME_THREADS: usize = 1;

/// How long tasks that do not end by themselves have at the end of a role.
const RUNTIME_END_TIMEOUT: Duration = Duration::from_secs(1);

/// How long to wait for the home folder's lock, and how often to try.
const LOCK_TIMEOUT: Duration = Duration::from_millis(500);
const LOCK_PAUSE: Duration = Duration::from_millis(10);

/// Requests to end that may wait; one is enough to end.
const SHUTDOWNS_MAX: usize = 4;

type RoleError = Box<dyn Error + Send + Sync>;

pub(super) fn control(shell: &Shell, args: &ControlArgs) -> Result<Exit, CliError> {
    run_role("the control plane", RUNTIME_THREADS, run_control(shell, args))
}

pub(super) fn agent(args: AgentArgs) -> Result<Exit, CliError> {
    run_role("the node agent", RUNTIME_THREADS, run_agent(args))
}

pub(super) fn worker(program: &Program) -> Result<Exit, CliError> {
    let workloads = program.workloads();
    run_role("the worker", WORKER_RUNTIME_THREADS, async { Ok(run_worker(workloads, launch_pipe()?).await?) })
}

/// Standard input as the pipe that it is: read without a thread that would hold up the end of the process.
fn launch_pipe() -> io::Result<pipe::Receiver> {
    pipe::Receiver::from_owned_fd(io::stdin().as_fd().try_clone_to_owned()?)
}

fn run_role(
    role: &'static str,
    threads: usize,
    work: impl Future<Output = Result<(), RoleError>>,
) -> Result<Exit, CliError> {
    let runtime = runtime(threads).map_err(|source| CliError::Start { what: role, source })?;
    let ended = runtime.block_on(work);
    runtime.shutdown_timeout(RUNTIME_END_TIMEOUT);
    ended.map(|()| Exit::Ok).map_err(|source| CliError::Role { role, source })
}

fn runtime(threads: usize) -> io::Result<Runtime> {
    Builder::new_multi_thread().worker_threads(threads).enable_all().build()
}

/// A control plane from its start to its end.
async fn run_control(shell: &Shell, args: &ControlArgs) -> Result<(), RoleError> {
    let home = &shell.home;
    // Before the listener is announced, so that no signal can end us the hard way from then on.
    let mut signals = Signals::listen()?;
    let _lock = lock(home).await?;
    let listener = listen(args.http).await?;
    let entries = shell.program.entries().infos();
    let mains = shell.program.mains();
    let mut plane = ControlPlane::start(Settings {
        home: home.path().to_owned(),
        quic_bind: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
        agent_binary: std::env::current_exe()?,
        entries: entries.clone(),
        config: config(home, args.config.as_deref())?,
    })
    .await?;
    let (shutdown, mut shutdowns) = mpsc::channel(SHUTDOWNS_MAX);
    let pid = std::process::id();
    let endpoint = Endpoint { http: listener.local_addr()?, quic: plane.quic_addr(), join: plane.join_addr(), pid };
    let server = http::serve(
        Api { control: plane.handle(), entries, mains, token: plane.token().to_owned(), shutdown },
        listener,
    )?;
    home.publish(&endpoint)?;
    tracing::info!(http = %endpoint.http, quic = %endpoint.quic, home = %home.path().display(), "ready");

    let how = tokio::select! {
        asked = shutdowns.recv() => asked.ok_or_else(|| "the HTTP server ended".into()),
        // A signal comes from the system going down or from a person in a hurry: the nodes work on.
        () = signals.recv() => Ok(ShutdownBody { end_nodes: false }),
        error = plane.failed() => Err(RoleError::from(error)),
    };
    server.stop().await;
    if let Ok(how) = &how {
        tracing::info!(end_nodes = how.end_nodes, "ending");
        plane.shutdown(how.end_nodes).await;
    }
    home.withdraw(pid)?;
    how.map(drop)
}

/// Takes the home folder. `neap up` holds the lock for moments, to see whether anybody has it.
async fn lock(home: &Home) -> Result<File, HomeError> {
    home.create()?;
    let deadline = Instant::now() + LOCK_TIMEOUT;
    loop {
        match home.lock() {
            Err(HomeError::Locked { .. }) if Instant::now() < deadline => tokio::time::sleep(LOCK_PAUSE).await,
            taken => return taken,
        }
    }
}

async fn listen(addr: SocketAddr) -> Result<TcpListener, RoleError> {
    TcpListener::bind(addr).await.map_err(|error| format!("failed to listen on {addr} for the API: {error}").into())
}

/// The file that was named, or the one in the home folder, or what suits this machine.
pub(super) fn config(home: &Home, named: Option<&Path>) -> Result<Config, RoleError> {
    let path = named.map_or_else(|| home.config_path(), Path::to_owned);
    let in_file = |error: &dyn Error| format!("{}: {error}", path.display());
    match fs::read_to_string(&path) {
        Ok(text) => Config::parse(&text).map_err(|error| in_file(&error).into()),
        Err(error) if error.kind() == io::ErrorKind::NotFound && named.is_none() => Ok(Config::default()),
        Err(error) => Err(in_file(&error).into()),
    }
}

/// What the system sends to a process that should end.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn listen() -> io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    async fn recv(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

async fn run_agent(args: AgentArgs) -> Result<(), RoleError> {
    let token = std::env::var("NEAP_JOIN_TOKEN")
        .map_err(|_| "no join token in NEAP_JOIN_TOKEN; a node agent is started by a provider, not by hand")?;
    let settings = AgentSettings {
        node: args.node,
        control: args.control,
        join: args.join,
        token: token.parse()?,
        folder: args.folder,
        size: NodeSize { cpus: args.cpu_millis, memory: args.memory_mib },
        worker_binary: std::env::current_exe()?,
    };
    Ok(neap_agent::run(settings).await?)
}
