"""Roles and what each may do: one closed table, denied by default."""

from typing import Literal, get_args

Role = Literal["viewer", "editor", "approver", "admin"]
ROLES: tuple[Role, ...] = get_args(Role)
"""Each role may do all that those before it may."""

PERMISSIONS: dict[tuple[str, str], Role] = {
    ("project", "read"): "viewer",
    ("project", "apply"): "editor",
    ("dataset", "read"): "viewer",
    ("dataset", "commit"): "editor",
    ("feature", "read"): "viewer",
    ("feature", "push"): "editor",
    ("run", "read"): "viewer",
    ("run", "start"): "editor",
    ("run", "report"): "editor",
    ("run", "cancel"): "editor",
    ("experiment", "read"): "viewer",
    ("experiment", "write"): "editor",
    ("model", "read"): "viewer",
    ("model", "register"): "editor",
    ("model", "alias"): "editor",
    ("endpoint", "read"): "viewer",
    ("endpoint", "advance"): "editor",
    ("endpoint", "approve"): "approver",
    ("endpoint", "promote"): "approver",
    ("endpoint", "restore"): "approver",
    ("rollout", "read"): "viewer",
    ("rollout", "cancel"): "approver",
    ("prediction", "read"): "viewer",
    ("prediction", "predict"): "viewer",
    ("prediction", "purge"): "admin",
    ("label", "read"): "viewer",
    ("label", "write"): "editor",
    ("alarm", "read"): "viewer",
    ("alarm", "acknowledge"): "editor",
    ("webhook", "read"): "editor",
    ("webhook", "write"): "admin",
    ("ledger", "read"): "viewer",
    ("ledger", "verify"): "viewer",
    ("actor", "read"): "admin",
    ("actor", "grant"): "admin",
    ("actor", "revoke"): "admin",
    ("token", "read"): "admin",
    ("token", "issue"): "admin",
    ("token", "revoke"): "admin",
    ("home", "read"): "viewer",
    ("home", "maintain"): "admin",
}
"""(resource, action) -> the least role that may. What is not here, nobody may."""


def reaches(role: Role, needed: Role) -> bool:
    """Tell whether a role includes another.

    >>> reaches("approver", "editor"), reaches("viewer", "editor")
    (True, False)
    """
    return ROLES.index(role) >= ROLES.index(needed)
