//! Which users of the host the users of containers are.

use std::fs;
use std::path::Path;

/// Host owner of user 0 of containers when the runtime runs as root. Far from what distributions hand out to people,
/// services and other container engines.
const BASE: u32 = 2_000_000_000;
/// Every container has the users 0 to 65535, as images expect.
const IDS: u32 = 65_536;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Users {
    /// As root: a range of our own.
    Root,
    /// User 0 is this user; the others are its subordinate ids.
    SubIds { user: u32, first_user: u32, first_group: u32 },
    /// There is only user 0, which is this user.
    One { user: u32, reason: String },
}

impl Users {
    pub(super) fn find() -> Users {
        let user = rustix::process::geteuid().as_raw();
        if user == 0 {
            return Users::Root;
        }
        let has = |program: &str| {
            ["/usr/bin", "/bin", "/usr/local/bin"].iter().any(|dir| Path::new(dir).join(program).exists())
        };
        if !has("newuidmap") || !has("newgidmap") {
            let reason =
                "install the package `uidmap` and give the user a range in /etc/subuid and /etc/subgid";
            return Users::One { user, reason: reason.into() };
        }
        let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
        let name = user_name(&passwd, user);
        let first = |file| range(&fs::read_to_string(file).unwrap_or_default(), name, user);
        match (first("/etc/subuid"), first("/etc/subgid")) {
            (Some(first_user), Some(first_group)) => Users::SubIds { user, first_user, first_group },
            _ => {
                let reason = "give the user 65536 ids in /etc/subuid and /etc/subgid";
                Users::One { user, reason: reason.into() }
            }
        }
    }

    /// Owner of user 0 as the helper sees it, which without root is in a user namespace of its own.
    pub(super) fn base(&self) -> u32 {
        if *self == Users::Root { BASE } else { 0 }
    }

    pub(super) fn count(&self) -> u32 {
        if matches!(self, Users::One { .. }) { 1 } else { IDS }
    }

    pub(super) fn rootless(&self) -> bool {
        *self != Users::Root
    }

    pub(super) fn sub_ids(&self) -> Option<(u32, u32)> {
        match self {
            Users::SubIds { first_user, first_group, .. } => Some((*first_user, *first_group)),
            _ => None,
        }
    }

    pub(super) fn host_id(&self, id: u32) -> u32 {
        let id = id.min(IDS - 1);
        match self {
            Users::Root => BASE + id,
            Users::SubIds { user, .. } if id == 0 => *user,
            Users::SubIds { first_user, .. } => first_user + id - 1,
            Users::One { user, .. } => *user,
        }
    }
}

fn user_name(passwd: &str, user: u32) -> Option<&str> {
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(user)).then_some(name)
    })
}

/// First id of a range that is long enough; lines are `name-or-number:first:count` (subuid(5)).
fn range(text: &str, name: Option<&str>, user: u32) -> Option<u32> {
    text.lines().find_map(|line| {
        let mut fields = line.split(':');
        let owner = fields.next()?;
        let (first, count) = (fields.next()?.parse().ok()?, fields.next()?.trim().parse::<u32>().ok()?);
        let ours = Some(owner) == name || owner.parse() == Ok(user);
        (ours && count >= IDS - 1).then_some(first)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subordinate_ranges_are_found_by_name_or_number() {
        let passwd = "root:x:0:0::/root:/bin/sh\nann:x:1000:1000::/home/ann:/bin/sh\n";
        assert_eq!(user_name(passwd, 1000), Some("ann"));
        assert_eq!(range("bob:100000:65536\nann:200000:65536\n", Some("ann"), 1000), Some(200_000));
        assert_eq!(range("1000:300000:65536\n", Some("ann"), 1000), Some(300_000));
        assert_eq!(range("ann:200000:10\n", Some("ann"), 1000), None);
    }

    #[test]
    fn host_ids_follow_the_map() {
        let users = Users::SubIds { user: 1000, first_user: 200_000, first_group: 200_000 };
        assert_eq!((users.host_id(0), users.host_id(1), users.host_id(65_535)), (1000, 200_000, 265_534));
        assert_eq!(Users::Root.host_id(7), BASE + 7);
    }
}
