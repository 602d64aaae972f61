//! Tenants: which there are, whose the applications are, and what they run as for that.

use hatchery_pool_client::AppOptions;
use hatchery_protocol::config::{TenantConfig, TenantOptions};

/// What is said of a tenant makes no sense.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NoTenant {
    #[error("there is no [[tenant]] called `{name}`{}", .near.as_ref().map(|near| format!("; did you mean `{near}`?")).unwrap_or_else(|| ": write one into pool.toml".to_owned()))]
    Unknown { name: String, near: Option<String> },
    #[error(
        "its tenant `{name}` says no `user`, but the tenant of [defaults] does, which is meant for that one alone: give \
         `{name}` a `user`, or the application"
    )]
    Anothers { name: String },
}

/// Whether a tenant's own settings make sense.
///
/// # Errors
/// One sentence.
pub(crate) fn check(options: &TenantOptions) -> Result<(), String> {
    let words = [("user", &options.user), ("group", &options.group)];
    match words.iter().find(|(_, word)| word.as_deref().is_some_and(|word| !super::settings::is_word(word))) {
        Some((name, _)) => Err(format!("{name} has to be a name, or a number")),
        None => Ok(()),
    }
}

/// Gives an application what its tenant says, where it says nothing itself. `defaults` as they were written.
///
/// # Errors
/// [`NoTenant`]
pub(crate) fn settle(
    options: &mut AppOptions,
    defaults: &AppOptions,
    tenants: &[TenantConfig],
) -> Result<(), NoTenant> {
    let Some(name) = options.tenant.as_ref().or(defaults.tenant.as_ref()) else { return Ok(()) };
    let own = find(name, tenants)?;
    if options.user.is_none() {
        options.user.clone_from(&own.options.user);
        let group = own.options.group.clone().filter(|_| own.options.user.is_some() || options.group.is_none());
        options.group = options.group.take().or(group);
    }
    let others = defaults.tenant.as_ref().filter(|other| *other != name);
    let others = others.map(|other| find(other, tenants)).transpose()?;
    match others.and_then(|other| other.options.user.as_ref()) {
        Some(_) if options.user.is_none() && defaults.user.is_none() => Err(NoTenant::Anothers { name: name.clone() }),
        _ => Ok(()),
    }
}

/// The tenant of this name.
///
/// # Errors
/// [`NoTenant::Unknown`], with the nearest there is.
pub(crate) fn find<'a>(name: &str, tenants: &'a [TenantConfig]) -> Result<&'a TenantConfig, NoTenant> {
    /// More letters wrong is another word.
    const FAR: usize = 3;
    tenants.iter().find(|tenant| tenant.name == name).ok_or_else(|| {
        let distances = tenants.iter().map(|tenant| (strsim::damerau_levenshtein(name, &tenant.name), &tenant.name));
        let near = distances.filter(|(distance, _)| *distance < FAR).min().map(|(_, near)| near.clone());
        NoTenant::Unknown { name: name.to_owned(), near }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tenant(name: &str, user: Option<&str>, group: Option<&str>) -> TenantConfig {
        let (user, group) = (user.map(str::to_owned), group.map(str::to_owned));
        TenantConfig { name: name.to_owned(), options: TenantOptions { user, group, ..TenantOptions::default() } }
    }

    fn of(tenant: &str) -> AppOptions {
        AppOptions { tenant: Some(tenant.to_owned()), ..AppOptions::default() }
    }

    #[test]
    fn an_application_runs_as_its_tenant_says_unless_it_says_so_itself() {
        let tenants = [tenant("acme", Some("acme-web"), Some("acme")), tenant("blue", None, None)];
        let mut plain = of("acme");
        settle(&mut plain, &AppOptions::default(), &tenants).unwrap();
        assert_eq!((plain.user.as_deref(), plain.group.as_deref()), (Some("acme-web"), Some("acme")));
        let mut own = AppOptions { user: Some("shop".into()), ..of("acme") };
        settle(&mut own, &AppOptions::default(), &tenants).unwrap();
        assert_eq!((own.user.as_deref(), own.group), (Some("shop"), None));
        let mut by_default = AppOptions::default();
        settle(&mut by_default, &of("acme"), &tenants).unwrap();
        assert_eq!(by_default.user.as_deref(), Some("acme-web"));
        let mut nobodys = of("blue");
        settle(&mut nobodys, &AppOptions::default(), &tenants).unwrap();
        assert_eq!(nobodys.user, None);
    }

    #[test]
    fn the_user_of_one_tenant_is_never_taken_for_another() {
        let tenants = [tenant("acme", Some("acme-web"), None), tenant("blue", None, None)];
        let refused = settle(&mut of("blue"), &of("acme"), &tenants);
        assert_eq!(refused, Err(NoTenant::Anothers { name: "blue".into() }));
    }

    #[test]
    fn an_unknown_tenant_is_named_with_the_nearest_there_is() {
        let tenants = [tenant("acme", None, None)];
        let sentence = |name: &str| find(name, &tenants).unwrap_err().to_string();
        assert_eq!(sentence("amce"), "there is no [[tenant]] called `amce`; did you mean `acme`?");
        assert!(sentence("globex").ends_with("write one into pool.toml"));
    }
}
