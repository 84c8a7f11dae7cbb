"""The paths of pages, and of the endpoint that they come back to."""

AUTHORIZE = "/oauth2/authorize"
SIGNIN, SIGNUP, ACCOUNT = "/signin", "/signup", "/account"
