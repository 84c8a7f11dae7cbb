"""The paths of pages, and of the endpoints that they come from."""

from issuer.authorize.decision import Page

AUTHORIZE, LOGOUT = "/oauth2/authorize", "/oauth2/logout"
SIGNIN, SIGNUP, CONSENT = Page.SIGN_IN.value, Page.SIGN_UP.value, Page.CONSENT.value
ACCOUNT, RESET, SIGNOUT = "/account", "/reset", "/signout"
FORGOT, CONFIRM_ADDRESS = "/forgot", "/confirm-address"
