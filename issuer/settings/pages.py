"""The settings of the pages, and of how long browsers stay signed in."""

from datetime import timedelta
from typing import Annotated, Literal

from pydantic import Field
from pydantic_settings import BaseSettings

from issuer.settings import values


class PageSettings(BaseSettings):
    """What users see and may do in a browser; a part of `settings.Settings`."""

    registration: Annotated[Literal["open", "closed"], values.ANY_CASE] = Field(
        "open", description="Whether users may create their own accounts."
    )
    name: Annotated[str, Field(min_length=1, max_length=100)] = Field(
        "JWKS issuer", description="The name of this issuer on its pages."
    )
    logo: values.FilePath | None = Field(None, description="An SVG, PNG, JPEG or WebP file for its pages.")
    browser_session_lifetime: values.Lifetime = Field(
        timedelta(hours=12), description="How long a browser stays signed in at most."
    )
    browser_session_idle: values.Lifetime = Field(
        timedelta(hours=2), description="How long a browser stays signed in without being used."
    )
    browser_session_remembered: values.Duration = Field(
        timedelta(days=30),
        description="How long users may choose to stay signed in, also unused; `0`: not at all.",
    )
