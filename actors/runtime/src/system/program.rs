//! What a worker binary has to offer: kinds of actors and main functions, each under its name.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::actor::{Actor, Fault, guarded};
use super::context::Context;
use super::node::System;
use super::running::Running;
use super::shell;
use crate::wire::actors::StartActor;
use crate::workload::BoxFuture;

/// How large what a main function returns may be, as JSON.
pub const RESULT_BYTES_MAX: usize = 64 * 1024;

type Start = dyn Fn(System, StartActor) -> BoxFuture<'static, Result<Arc<Running>, String>> + Send + Sync;
type Main = dyn Fn(Context, Value) -> BoxFuture<'static, Result<String, String>> + Send + Sync;

/// The kinds of actors and the main functions of a program. Cheap to clone.
///
/// ```
/// use neap_runtime::system::{Context, Fault, Program};
/// use serde::Deserialize;
///
/// #[derive(Deserialize)]
/// struct Params {
///     greeting: String,
/// }
///
/// async fn greet(context: Context, params: Params) -> Result<String, Fault> {
///     Ok(format!("{} from {}", params.greeting, context.worker()))
/// }
///
/// let program = Program::default().main("greet", greet);
/// assert_eq!(program.mains().collect::<Vec<_>>(), ["greet"]);
/// ```
#[derive(Clone, Default)]
pub struct Program {
    kinds: BTreeMap<&'static str, Arc<Start>>,
    mains: BTreeMap<&'static str, Arc<Main>>,
}

impl Program {
    /// Adds a kind of actor.
    #[must_use]
    pub fn actor<A: Actor>(mut self) -> Self {
        let start = |system: System, start: StartActor| -> BoxFuture<'static, _> {
            Box::pin(async move { shell::start::<A>(system, start).await })
        };
        self.kinds.insert(A::NAME, Arc::new(start));
        self
    }

    /// Adds a main function, the one that `actors.main` of a job file names. It gets `actors.params` and gives the job's
    /// result, at most [`RESULT_BYTES_MAX`] as JSON. An error or a panic fails the job. Where its worker is lost it runs
    /// again on another one: [`Context::save`] keeps what it has done.
    #[must_use]
    pub fn main<P, R, F>(mut self, name: &'static str, main: impl Fn(Context, P) -> F + Send + Sync + 'static) -> Self
    where
        P: DeserializeOwned + Send + 'static,
        R: Serialize + Send + 'static,
        F: Future<Output = Result<R, Fault>> + Send + 'static,
    {
        let main = Arc::new(main);
        let run = move |context: Context, params: Value| -> BoxFuture<'static, _> {
            let main = main.clone();
            let run = async move {
                let params = serde_json::from_value(params).map_err(|error| format!("actors.params: {error}"))?;
                let result = main(context, params).await?;
                let text = serde_json::to_string(&result)?;
                match text.len() {
                    bytes if bytes > RESULT_BYTES_MAX => {
                        Err(format!("a result of {bytes} bytes; at most {RESULT_BYTES_MAX} are kept").into())
                    }
                    _ => Ok(text),
                }
            };
            Box::pin(guarded(run))
        };
        self.mains.insert(name, Arc::new(run));
        self
    }

    /// The names of its main functions.
    pub fn mains(&self) -> impl Iterator<Item = &'static str> {
        self.mains.keys().copied()
    }

    pub(super) fn find_main(&self, name: &str) -> Result<Arc<Main>, String> {
        let known = || self.mains().collect::<Vec<_>>().join(", ");
        self.mains
            .get(name)
            .cloned()
            .ok_or_else(|| format!("there is no main function `{name}`; there is: {}", known()))
    }

    pub(super) fn find_kind(&self, name: &str) -> Result<Arc<Start>, String> {
        let known = || self.kinds.keys().copied().collect::<Vec<_>>().join(", ");
        self.kinds
            .get(name)
            .cloned()
            .ok_or_else(|| format!("there is no actor `{name}` in this binary; it has: {}", known()))
    }
}

impl fmt::Debug for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (kinds, mains): (Vec<_>, Vec<_>) = (self.kinds.keys().collect(), self.mains.keys().collect());
        f.debug_struct("Program").field("kinds", &kinds).field("mains", &mains).finish()
    }
}
