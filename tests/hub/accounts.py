"""Who may do what: tokens, and the answers of the Hub to those who may not."""

from dataclasses import dataclass

from tests.hub.store import HubError, Repository

NOT_FOUND = "RepoNotFound"


@dataclass(frozen=True)
class Account:
    """What a token stands for: a user, `read` or `write`, and the organizations whose repositories it may write too."""

    name: str
    role: str = "write"
    organizations: tuple[str, ...] = ()

    def owns(self, namespace: str) -> bool:
        return namespace == self.name or namespace in self.organizations


def account_of(authorization: str | None, accounts: dict[str, Account]) -> Account | None:
    """The account of a request, none if it is anonymous. A token that is not known is refused, whatever is asked."""
    if authorization is None:
        return None
    token = authorization.removeprefix("Bearer ")
    if token not in accounts:
        raise HubError(401, "Invalid credentials in Authorization header")
    return accounts[token]


def require_account(account: Account | None) -> Account:
    if account is None:
        raise HubError(401, "Invalid username or password.")
    return account


def require_read(account: Account | None, repository: Repository | None) -> Repository:
    """The Hub tells nobody whether a repository that he may not see exists."""
    if repository is not None and (not repository.private or (account and account.owns(repository.owner))):
        return repository
    if account is None:
        raise HubError(401, "Invalid username or password.", NOT_FOUND)
    raise HubError(404, "Repository not found", NOT_FOUND)


def require_write(account: Account | None, repository: Repository | None) -> Repository:
    repository = require_read(account, repository)
    account = require_account(account)
    if not account.owns(repository.owner):
        raise HubError(403, "Forbidden: pass `create_pr=1` as a query parameter to create a Pull Request")
    require_role(account)
    return repository


def require_namespace(account: Account | None, namespace: str, kind: str) -> None:
    account = require_account(account)
    require_role(account)
    if not account.owns(namespace):
        raise HubError(403, f'You don\'t have the rights to create a {kind} under the namespace "{namespace}"')


def require_role(account: Account) -> None:
    if account.role != "write":
        raise HubError(403, "You have read access but not the required permissions for this operation")
