"""`/users/me`: the account of the user of an access token is shown, changed and deleted.

Only tokens of `/login` and of trusted clients may: `tokens.bearer`. Pages for the same are `pages.own_password` and
`pages.own_deletion`.
"""

from typing import Annotated

from fastapi import APIRouter, Response
from pydantic import BaseModel, Field, SecretStr

from issuer.accounts.profile import EMAIL_MOST_CHARACTERS, NAME_MOST_CHARACTERS
from issuer.accounts.user import PASSWORD_LEAST_CHARACTERS, PASSWORD_MOST_BYTES
from issuer.oauth import InvalidGrant, InvalidRequest, LoginFailed, TooManyAttempts, Unavailable
from issuer.web.account.device_cookie import DeviceDep
from issuer.web.account.password_changes import PasswordChangesDep
from issuer.web.account.users import Account, account_of
from issuer.web.deps import CALLER_ERRORS, CurrentCaller
from issuer.web.http.ambiguity import UnambiguousRoute
from issuer.web.http.body_limit import BODY_ERRORS
from issuer.web.http.errors import NO_STORE, Documented, documented
from issuer.web.http.forms import FORM, JSON, wrong_type
from issuer.web.oauth.token import no_store

router = APIRouter(tags=["accounts"], route_class=UnambiguousRoute)


class WrongPassword(InvalidGrant):
    """The password of the account is wrong.

    Not a 401, as at the log-in: applications would renew the access token, which is valid, and try again.
    """

    description = "the password is wrong"


PASSWORD_ERRORS: tuple[Documented, ...] = (
    wrong_type(FORM, JSON),
    WrongPassword,
    *CALLER_ERRORS,
    *BODY_ERRORS,
    TooManyAttempts,
    Unavailable,
)
CurrentPassword = Annotated[
    SecretStr, Field(description="The current password.", examples=["six tall llamas hum"])
]


class PasswordChange(BaseModel):
    """A change of the password."""

    password: CurrentPassword
    new_password: Annotated[
        SecretStr,
        Field(
            description=f"At least {PASSWORD_LEAST_CHARACTERS} characters and at most {PASSWORD_MOST_BYTES} bytes;"
            " neither the username nor a common password.",
            examples=["nine calm bisons whisper"],
        ),
    ]


class Deletion(BaseModel):
    """The confirmation that the account shall be deleted."""

    password: CurrentPassword


class ProfileChange(BaseModel):
    """What shall be changed; what is left out stays."""

    name: Annotated[
        str | None,
        Field(
            description=f"The full name, of at most {NAME_MOST_CHARACTERS} characters. Empty or null: none.",
            examples=["Alice Liddell"],
        ),
    ] = None
    email: Annotated[
        str | None,
        Field(
            description=f"The e-mail address, of at most {EMAIL_MOST_CHARACTERS} characters. Empty or null: none."
            " If this issuer sends mail, it is stored when the user has confirmed it.",
            examples=["alice@example.com"],
        ),
    ] = None
    password: Annotated[
        SecretStr,
        Field(
            description="The current password, which is needed to remove the address; if this issuer sends no mail,"
            " to change it, too.",
            examples=["six tall llamas hum"],
        ),
    ] = SecretStr("")


@router.get("/users/me", summary="Show my account", responses=documented(*CALLER_ERRORS, Unavailable))
async def me(caller: CurrentCaller, response: Response) -> Account:
    """Return the account of the access token's user.

    The token is of `/login` or of a trusted client, and its `aud` contains the issuer's URL.
    """
    no_store(response)
    return account_of(caller.user)


@router.patch(
    "/users/me",
    summary="Change my name or address",
    responses=documented(
        wrong_type(FORM, JSON),
        InvalidRequest("'alice@' is not an e-mail address such as alice@example.com"),
        *PASSWORD_ERRORS[1:],
    ),
)
async def change_profile(
    change: ProfileChange,
    caller: CurrentCaller,
    changes: PasswordChangesDep,
    origin: DeviceDep,
    response: Response,
) -> Account:
    """Change the name or the e-mail address, and return the account.

    If this issuer sends mail, another address is not changed yet: the user confirms it with a link and the password.
    The same address, not confirmed yet, is sent another link.
    """
    given = {
        field: getattr(change, field) or "" for field in ("name", "email") if field in change.model_fields_set
    }
    password = change.password.get_secret_value()
    no_store(response)
    try:
        user = await changes.change_profile(
            caller.user, password, origin, name=given.get("name"), email=given.get("email")
        )
    except LoginFailed:
        raise WrongPassword from None
    return account_of(user)


@router.post(
    "/users/me/password",
    summary="Change my password",
    status_code=204,
    response_class=Response,
    responses={
        204: {"description": "The password was changed, and all other sessions of the user have ended."},
        **documented(
            InvalidRequest(f"password must have at least {PASSWORD_LEAST_CHARACTERS} characters"),
            *PASSWORD_ERRORS,
        ),
    },
)
async def change_password(
    change: PasswordChange, caller: CurrentCaller, changes: PasswordChangesDep, origin: DeviceDep
) -> Response:
    """Change the password of the user; the session of the access token stays valid, all others end.

    Wrong passwords are limited as at `/login`.
    """
    old, new = change.password.get_secret_value(), change.new_password.get_secret_value()
    try:
        await changes.change_of_caller(caller, old, new, origin)
    except LoginFailed:
        raise WrongPassword from None
    return Response(status_code=204, headers=NO_STORE)


@router.delete(
    "/users/me",
    summary="Delete my account",
    status_code=204,
    response_class=Response,
    responses={
        204: {"description": "The account was deleted, with all that was stored about the user."},
        **documented(*PASSWORD_ERRORS),
    },
)
async def delete(
    confirmation: Deletion, caller: CurrentCaller, changes: PasswordChangesDep, origin: DeviceDep
) -> Response:
    """Delete the account of the user, and end all its sessions; this cannot be undone.

    Other services accept its access tokens until they expire.
    """
    try:
        await changes.delete(caller.user, confirmation.password.get_secret_value(), origin)
    except LoginFailed:
        raise WrongPassword from None
    return Response(status_code=204, headers=NO_STORE)
