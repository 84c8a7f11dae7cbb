"""The paths of pages, and of the endpoints that they come from."""

AUTHORIZE = "/oauth2/authorize"
SIGNIN, SIGNUP, ACCOUNT = "/signin", "/signup", "/account"
CONSENT, RESET = "/consent", "/reset"
FORGOT, CONFIRM_ADDRESS = "/forgot", "/confirm-address"
SIGNOUT, LOGOUT = "/signout", "/oauth2/logout"
