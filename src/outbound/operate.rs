//! Orders of operators: written first, then heeded.

use actix::{AsyncContext, Handler, Message, ResponseFuture};

use super::manager::Outbound;
use super::{Deps, rest};
use crate::queue::{Kind, ORDERS_MAX, Order, Target};
use crate::store::{Batch, Haste, StoreError};

/// Gives an order.
#[derive(Debug, Message)]
#[rtype(result = "Result<(), OperateError>")]
pub struct Operate(pub Order);

/// Ends an order: mail that was suspended is resumed, mail that was held is released.
#[derive(Debug, Message)]
#[rtype(result = "Result<bool, OperateError>")]
pub struct Lift {
    /// What was ordered.
    pub kind: Kind,
    /// For whose mail.
    pub target: Target,
}

/// Why an order is not in force.
#[derive(Debug, thiserror::Error)]
pub enum OperateError {
    /// There are too many.
    #[error("there are {ORDERS_MAX} orders already; lift some, or give one for everything")]
    TooMany,
    /// It could not be written.
    #[error(transparent)]
    Store(#[from] StoreError),
}

#[derive(Message)]
#[rtype(result = "()")]
struct OrdersChanged;

/// Orders that were over have been ended.
#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct OrdersEnded;

async fn give(deps: &Deps, order: Order) -> Result<(), OperateError> {
    let _turn = deps.orders.turn().await;
    let orders = deps.orders.now();
    if orders.holds(&order).is_none() && orders.iter().count() >= ORDERS_MAX {
        return Err(OperateError::TooMany);
    }
    let mut batch = Batch::new();
    order.write(&mut batch);
    deps.store.commit_with(batch, Haste::Now).await?;
    tracing::info!(event = "ordered", order = ?order);
    deps.orders.change(|orders| orders.insert(order));
    Ok(())
}

/// The row goes first, with the one that follows it; then whoever kept silent under it is woken.
async fn lift(deps: &Deps, order: Order) -> Result<(), StoreError> {
    let sequel = order.sequel(deps.clock.now());
    if let Some(sequel) = &sequel {
        let mut batch = Batch::new();
        sequel.write(&mut batch);
        deps.store.commit_with(batch, Haste::Now).await?;
    }
    rest::lift_all(deps, &order.destination()).await?;
    tracing::info!(event = "lifted", order = ?order);
    sequel.into_iter().for_each(|sequel| deps.orders.change(|orders| orders.insert(sequel)));
    Ok(())
}

/// Takes an order out and lifts it; puts it back where that fails and its row is still there. Where the row is
/// gone but not everybody was woken, the manager asks the rows of the mail themselves.
async fn take_out(deps: &Deps, kind: Kind, target: &Target) -> Result<bool, StoreError> {
    let _turn = deps.orders.turn().await;
    let Some(order) = deps.orders.change(|orders| orders.remove(kind, target)) else { return Ok(false) };
    let lifted = lift(deps, order.clone()).await;
    if lifted.is_err() && is_written(deps, &order).await {
        deps.orders.change(|orders| orders.insert(order));
    }
    lifted.map(|()| true)
}

async fn is_written(deps: &Deps, order: &Order) -> bool {
    let destination = order.destination();
    let row = deps.store.read(move |reader| destination.rest(reader)).await;
    // what cannot be read is believed to be there
    row.map_or(true, |row| row.is_some())
}

/// Ends orders that have come to their end.
pub(super) async fn end(deps: &Deps, over: Vec<Order>) {
    for order in over {
        if let Err(error) = take_out(deps, order.kind, &order.target).await {
            // tried again at the next beat
            tracing::error!(event = "order_not_ended", order = ?order, error = %error);
        }
    }
}

impl Handler<Operate> for Outbound {
    type Result = ResponseFuture<Result<(), OperateError>>;

    fn handle(&mut self, Operate(order): Operate, context: &mut Self::Context) -> Self::Result {
        self.deps().faults.reach("manager", &"Operate");
        let (deps, me) = (self.deps(), context.address());
        Box::pin(async move {
            give(&deps, order).await?;
            me.do_send(OrdersChanged);
            Ok(())
        })
    }
}

impl Handler<Lift> for Outbound {
    type Result = ResponseFuture<Result<bool, OperateError>>;

    fn handle(&mut self, lift: Lift, context: &mut Self::Context) -> Self::Result {
        self.deps().faults.reach("manager", &"Lift");
        let (deps, me) = (self.deps(), context.address());
        Box::pin(async move {
            let lifted = take_out(&deps, lift.kind, &lift.target).await;
            if !matches!(lifted, Ok(false)) {
                me.do_send(OrdersChanged);
            }
            Ok(lifted?)
        })
    }
}

impl Handler<OrdersChanged> for Outbound {
    type Result = ();

    fn handle(&mut self, _: OrdersChanged, context: &mut Self::Context) {
        self.reconsider(context);
    }
}

impl Handler<OrdersEnded> for Outbound {
    type Result = ();

    fn handle(&mut self, _: OrdersEnded, context: &mut Self::Context) {
        self.orders_ended(context);
    }
}
