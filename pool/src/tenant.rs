//! What the apps of one tenant have in common.

use crate::ids::AppId;
use crate::pool::Pool;

/// The apps of a tenant.
pub(crate) fn apps<'a>(pool: &'a Pool, name: &'a str) -> impl Iterator<Item = AppId> + 'a {
    pool.apps.iter().filter(move |(_, app)| app.settings.tenant.as_deref() == Some(name)).map(|(&id, _)| id)
}
