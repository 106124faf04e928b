//! Tasks of a domain, each of which ends in telling the actor something, whatever becomes of it.

use actix::{Addr, Handler, Message};

use super::actor::DomainActor;

/// Runs a task that ends in telling the actor something; should it panic, the actor hears `otherwise`.
pub(super) fn guard<M, O>(me: Addr<DomainActor>, otherwise: O, task: impl Future<Output = M> + Send + 'static)
where
    M: Message<Result = ()> + Send + 'static,
    O: Message<Result = ()> + Send + 'static,
    DomainActor: Handler<M> + Handler<O>,
{
    let mut debt = Debt(Some((me, otherwise)));
    tokio::spawn(async move {
        let told = task.await;
        if let Some((me, _)) = debt.0.take() {
            me.do_send(told);
        }
    });
}

/// An answer that is owed to the actor, and is given on whatever way the task ends.
struct Debt<O>(Option<(Addr<DomainActor>, O)>)
where
    O: Message<Result = ()> + Send + 'static,
    DomainActor: Handler<O>;

impl<O> Drop for Debt<O>
where
    O: Message<Result = ()> + Send + 'static,
    DomainActor: Handler<O>,
{
    fn drop(&mut self) {
        if let Some((me, otherwise)) = self.0.take() {
            me.do_send(otherwise);
        }
    }
}
