//! Orders of operators: written first, then heeded.

use actix::{AsyncContext, Handler, Message, ResponseFuture};

use super::manager::Outbound;
use super::rest;
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

impl Handler<Operate> for Outbound {
    type Result = ResponseFuture<Result<(), OperateError>>;

    fn handle(&mut self, Operate(order): Operate, context: &mut Self::Context) -> Self::Result {
        self.deps().faults.reach("manager", &"Operate");
        let (deps, me) = (self.deps(), context.address());
        Box::pin(async move {
            if deps.orders.now().iter().count() >= ORDERS_MAX {
                return Err(OperateError::TooMany);
            }
            let mut batch = Batch::new();
            order.write(&mut batch);
            deps.store.commit_with(batch, Haste::Now).await?;
            tracing::info!(event = "ordered", order = ?order);
            deps.orders.change(|orders| orders.insert(order));
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
            let Some(order) = deps.orders.change(|orders| orders.remove(lift.kind, &lift.target)) else {
                return Ok(false);
            };
            tracing::info!(event = "lifted", order = ?order);
            // the row goes first, then whoever kept silent under it is woken
            let lifted = rest::lift_all(&deps, &order.destination()).await;
            me.do_send(OrdersChanged);
            lifted?;
            Ok(true)
        })
    }
}

impl Handler<OrdersChanged> for Outbound {
    type Result = ();

    fn handle(&mut self, _: OrdersChanged, context: &mut Self::Context) {
        self.reconsider(context);
    }
}
