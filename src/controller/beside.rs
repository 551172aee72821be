//! A plan that is made while somebody else writes.
//!
//! What stores hold and what is remembered of them are read one after the other. A pass that ends in between has written what is not
//! remembered yet, or is remembered what was not seen: rows that nobody touched would pass for edited, or for gone back.

use std::time::Duration;

use crate::plan::{Plan, of_writing_beside};
use crate::reconcile::Opened;
use crate::telemetry::Observer;

use super::lease::LEASE_WAIT;
use super::{Engine, EngineError, PassOptions};

/// How often it is looked again at most. Whoever writes for longer than that is told of in the plan.
const LOOKS: u32 = 3;

/// How long a pass in progress is waited for before it is looked: most take less.
const PATIENCE: Duration = Duration::from_secs(1);

impl Engine {
    /// Looks at everything and plans; writes nothing, and changes no state. Where somebody else wrote meanwhile it is looked again, and
    /// where that does not end, the plan says so. A pass in progress is waited for a moment first, with a `lock_timeout` as long as that.
    ///
    /// # Errors
    /// When the canonical store or the state cannot be used.
    pub async fn plan(&self, options: &PassOptions, observer: &dyn Observer) -> Result<Plan, EngineError> {
        let work = async {
            let mut patience = PATIENCE.max(Duration::from_millis(options.lock_timeout_ms));
            let mut looks = 0;
            loop {
                self.others_done(patience).await;
                patience = PATIENCE;
                looks += 1;
                let other = self.at_work().await;
                let executor = self.executor(observer, None, options);
                let opened = self.opening(&executor, false).await?;
                let plan = self.look(&executor, &opened, options).await?;
                let mut plan = plan.ok_or_else(|| {
                    EngineError::new("these records cannot be decided about alone").hint("plan everything")
                })?;
                let Some(writer) = self.wrote_meanwhile(&opened, other).await else { return Ok(plan) };
                if looks == LOOKS {
                    plan.notices.insert(0, of_writing_beside(&writer));
                    return Ok(plan);
                }
            }
        };
        self.counting(observer, work).await
    }

    /// Who else holds the lease on the state. What cannot be read says nothing: whoever needs the state is told by what it does next.
    async fn at_work(&self) -> Option<String> {
        let lease = self.state.lease().await.ok().flatten();
        let other = lease.filter(|lease| lease.holder != self.holder && lease.expires > self.now());
        other.map(|lease| lease.holder)
    }

    /// Waits until nobody else holds the lease, but no longer than that.
    async fn others_done(&self, patience: Duration) {
        let began = tokio::time::Instant::now();
        while began.elapsed() < patience && self.at_work().await.is_some() {
            tokio::time::sleep(LEASE_WAIT.min(patience)).await;
        }
    }

    /// Who, if anybody, wrote since the state was opened: somebody whose writes were under way then, or a pass that began since.
    async fn wrote_meanwhile(&self, opened: &Opened, other: Option<String>) -> Option<String> {
        let header = self.state.header().await.ok()?;
        let began = header.id != opened.header.id
            || header.intended != opened.header.intended
            || header.acknowledged > opened.header.acknowledged;
        match other {
            Some(other) => (began || opened.recovered).then_some(other),
            None if began => Some(self.at_work().await.unwrap_or_else(|| "another pass".to_owned())),
            None => None,
        }
    }
}
