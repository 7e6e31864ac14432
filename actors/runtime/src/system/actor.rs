//! What one writes: an actor with its messages.

use std::future::Future;
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::children::Exit;
use super::context::Context;
use super::stream::ItemSender;

/// Why an actor or a main function cannot go on. Any error becomes one with `?`.
pub type Fault = Box<dyn std::error::Error + Send + Sync>;

/// For messages that an actor does not have: there is no value of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Never {}

/// How a child ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChildExit {
    /// The name it was started under.
    pub name: String,
    /// How it ended.
    pub exit: Exit,
}

/// An actor: state that only its own messages change, one message at a time.
///
/// It is started from [`Self::Args`] on whatever worker, and again from the same arguments after it failed or its worker
/// was lost. What must survive that, it saves with [`Context::save`] and gets back with [`Context::restored`].
///
/// A method that panics or gives an error fails the actor, and its supervisor decides ([`super::OnFailure`]). An outcome
/// that a caller should see belongs into [`Self::Reply`].
///
/// ```
/// use neap_runtime::system::{Actor, Context, Fault, Never, Program, Spawn};
/// # use std::time::Duration;
///
/// struct Counter(u64);
///
/// impl Actor for Counter {
///     const NAME: &'static str = "counter";
///     type Args = u64;
///     type Cast = u64;
///     type Request = ();
///     type Reply = u64;
///     type Item = Never;
///
///     async fn start(first: u64, _: &mut Context) -> Result<Self, Fault> {
///         Ok(Self(first))
///     }
///
///     async fn cast(&mut self, more: u64, _: &mut Context) -> Result<(), Fault> {
///         self.0 += more;
///         Ok(())
///     }
///
///     async fn call(&mut self, (): (), _: &mut Context) -> Result<u64, Fault> {
///         Ok(self.0)
///     }
/// }
///
/// async fn count(context: Context, (): ()) -> Result<u64, Fault> {
///     let counter = context.spawn::<Counter>(Spawn::named("counter"), &40).await?;
///     counter.send(&2).await?;
///     Ok(counter.call(&(), Duration::from_secs(10)).await?)
/// }
///
/// # #[tokio::main]
/// # async fn main() -> Result<(), Fault> {
/// let program = Program::default().actor::<Counter>().main("count", count);
/// assert_eq!(program.run_alone::<u64>("count", ()).await?, 42);
/// # Ok(())
/// # }
/// ```
pub trait Actor: Sized + Send + 'static {
    /// The name it is registered under; part of the addresses of its kind.
    const NAME: &'static str;
    /// What it starts with.
    type Args: Serialize + DeserializeOwned + Send + 'static;
    /// Messages without an answer.
    type Cast: Serialize + DeserializeOwned + Send + 'static;
    /// Messages with an answer, or with a stream of items.
    type Request: Serialize + DeserializeOwned + Send + 'static;
    /// The answers.
    type Reply: Serialize + DeserializeOwned + Send + 'static;
    /// What its streams consist of.
    type Item: Serialize + DeserializeOwned + Send + 'static;

    /// Begins, or begins anew.
    fn start(args: Self::Args, context: &mut Context) -> impl Future<Output = Result<Self, Fault>> + Send;

    /// Handles a message without an answer.
    fn cast(&mut self, _message: Self::Cast, _context: &mut Context) -> impl Future<Output = Result<(), Fault>> + Send {
        async { Err(format!("the actor `{}` takes no casts", Self::NAME).into()) }
    }

    /// Answers a request.
    fn call(
        &mut self,
        _request: Self::Request,
        _context: &mut Context,
    ) -> impl Future<Output = Result<Self::Reply, Fault>> + Send {
        async { Err(format!("the actor `{}` takes no calls", Self::NAME).into()) }
    }

    /// Answers a request with many items. Sending waits while the reader is slow, and the actor's other messages with
    /// it: move `items` into a task where that matters.
    fn stream(
        &mut self,
        _request: Self::Request,
        _items: ItemSender<Self::Item>,
        _context: &mut Context,
    ) -> impl Future<Output = Result<(), Fault>> + Send {
        async { Err(format!("the actor `{}` has no streams", Self::NAME).into()) }
    }

    /// A child of this actor has ended for good.
    fn child_exited(
        &mut self,
        _child: ChildExit,
        _context: &mut Context,
    ) -> impl Future<Output = Result<(), Fault>> + Send {
        async { Ok(()) }
    }

    /// A node has to go: the one it runs on, or the one that supervises it. `left` is the time until then, at most. Save
    /// here what must survive ([`Context::save`]).
    ///
    /// Heard as soon as the message at hand is handled. Where there is another worker to run on, no more messages come in,
    /// those that wait are handled, and it hears of it once more, as the last thing it does here ([`Self::stop`] is not
    /// called): then it starts there. Where there is none it goes on, and ends with the node.
    ///
    /// An error has the actor begin anew.
    fn notice(&mut self, _left: Duration, _context: &mut Context) -> impl Future<Output = Result<(), Fault>> + Send {
        async { Ok(()) }
    }

    /// The last thing it does when it is stopped: its messages are handled and its children have ended.
    fn stop(&mut self, _context: &mut Context) -> impl Future<Output = Result<(), Fault>> + Send {
        async { Ok(()) }
    }
}

/// An error with all its causes, on one line.
pub(super) fn text_of(fault: &(dyn std::error::Error + 'static)) -> String {
    let mut text = fault.to_string();
    let mut cause = fault.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

/// Runs code of the program; a panic in it is an error like others.
pub(super) async fn guarded<T>(future: impl Future<Output = Result<T, Fault>>) -> Result<T, String> {
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::task::Poll;
    let mut future = std::pin::pin!(future);
    // What the future left half done is dropped with it: whoever owns the state it worked on begins anew.
    let polled = std::future::poll_fn(|cx| match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(cx))) {
        Ok(Poll::Pending) => Poll::Pending,
        Ok(Poll::Ready(outcome)) => Poll::Ready(outcome.map_err(|fault| text_of(&*fault))),
        Err(panic) => Poll::Ready(Err(format!("panicked: {}", panic_text(&*panic)))),
    });
    polled.await
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no text")
}
