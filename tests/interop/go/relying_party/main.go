// Signs in with go-oidc and golang.org/x/oauth2: reads one JSON line with the client's registration, then calls, one a
// line, and writes one JSON line for each. Endpoints and keys are found by discovery. The browser and the expected
// results are in test_sign_in.py.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"log"
	"net/url"
	"os"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"
)

type registration struct {
	Issuer                string `json:"issuer"`
	ClientID              string `json:"client_id"`
	ClientSecret          string `json:"client_secret"`
	RedirectURI           string `json:"redirect_uri"`
	PostLogoutRedirectURI string `json:"post_logout_redirect_uri"`
}

type request struct {
	Call       string       `json:"call"`
	Registered registration `json:"registered"`
	Scope      string       `json:"scope"`
	URL        string       `json:"url"`
	State      string       `json:"state"`
}

type answer map[string]any

type client struct {
	registered         registration
	provider           *oidc.Provider
	verifier           *oidc.IDTokenVerifier
	config             oauth2.Config
	state, nonce, pkce string
	token              *oauth2.Token
	newest             string // refresh token
}

func main() {
	log.SetFlags(0)
	ctx := context.Background()
	lines := bufio.NewScanner(os.Stdin)
	answers := json.NewEncoder(os.Stdout)
	var party *client
	for lines.Scan() {
		var given request
		if err := json.Unmarshal(lines.Bytes(), &given); err != nil {
			log.Fatal(err)
		}
		var result answer
		var err error
		if party == nil {
			party, err = newClient(ctx, given.Registered)
			result = answer{}
		} else {
			result, err = party.call(ctx, given)
		}
		if err != nil {
			result = answer{"error": err.Error()}
		}
		if err := answers.Encode(result); err != nil {
			log.Fatal(err)
		}
	}
}

func newClient(ctx context.Context, registered registration) (*client, error) {
	provider, err := oidc.NewProvider(ctx, registered.Issuer)
	if err != nil {
		return nil, err
	}
	return &client{
		registered: registered,
		provider:   provider,
		verifier:   provider.Verifier(&oidc.Config{ClientID: registered.ClientID}),
		config: oauth2.Config{
			ClientID:     registered.ClientID,
			ClientSecret: registered.ClientSecret,
			Endpoint:     provider.Endpoint(),
			RedirectURL:  registered.RedirectURI,
		},
		state: oauth2.GenerateVerifier(),
		nonce: oauth2.GenerateVerifier(),
	}, nil
}

func (c *client) call(ctx context.Context, given request) (answer, error) {
	switch given.Call {
	case "begin":
		return c.begin(given.Scope)
	case "finish":
		return c.finish(ctx, given.URL)
	case "refresh":
		return c.refresh(ctx)
	case "log_out":
		return c.logOut(given.State)
	}
	return nil, errors.New("no such call: " + given.Call)
}

func (c *client) begin(scope string) (answer, error) {
	c.pkce = oauth2.GenerateVerifier()
	c.config.Scopes = []string{scope}
	options := []oauth2.AuthCodeOption{oidc.Nonce(c.nonce), oauth2.S256ChallengeOption(c.pkce)}
	return answer{"url": c.config.AuthCodeURL(c.state, options...)}, nil
}

func (c *client) finish(ctx context.Context, callback string) (answer, error) {
	at, err := url.Parse(callback)
	if err != nil {
		return nil, err
	}
	parameters := at.Query()
	if parameters.Get("state") != c.state || parameters.Get("iss") != c.registered.Issuer {
		return nil, errors.New("state or iss differs: " + callback)
	}
	c.token, err = c.config.Exchange(ctx, parameters.Get("code"), oauth2.VerifierOption(c.pkce))
	if err != nil {
		return nil, err
	}
	c.newest = c.token.RefreshToken
	verified, idToken, err := c.verify(ctx, c.token)
	if err != nil {
		return nil, err
	}
	if verified.Nonce != c.nonce {
		return nil, errors.New("nonce differs: " + verified.Nonce)
	}
	if err := verified.VerifyAccessToken(c.token.AccessToken); err != nil {
		return nil, err
	}
	info, err := c.provider.UserInfo(ctx, oauth2.StaticTokenSource(c.token))
	if err != nil {
		return nil, err
	}
	claims, about := answer{}, answer{}
	return answer{"id_token": idToken, "claims": &claims, "userinfo": &about},
		firstOf(verified.Claims(&claims), info.Claims(&about))
}

func (c *client) refresh(ctx context.Context) (answer, error) {
	expired := &oauth2.Token{RefreshToken: c.newest}
	token, err := c.config.TokenSource(ctx, expired).Token()
	if err != nil {
		return nil, err
	}
	c.newest = token.RefreshToken
	verified, idToken, err := c.verify(ctx, token)
	if err != nil {
		return nil, err
	}
	claims := answer{}
	return answer{"id_token": idToken, "claims": &claims}, verified.Claims(&claims)
}

// verify returns the id_token of a token response, verified, and as it came.
func (c *client) verify(ctx context.Context, token *oauth2.Token) (*oidc.IDToken, string, error) {
	idToken, found := token.Extra("id_token").(string)
	if !found {
		return nil, "", errors.New("no id_token")
	}
	verified, err := c.verifier.Verify(ctx, idToken)
	return verified, idToken, err
}

// logOut uses the metadata, as go-oidc has no call for RP-initiated logout.
func (c *client) logOut(state string) (answer, error) {
	var metadata struct {
		EndSession string `json:"end_session_endpoint"`
	}
	if err := c.provider.Claims(&metadata); err != nil {
		return nil, err
	}
	hint := url.Values{
		"id_token_hint":            {c.token.Extra("id_token").(string)},
		"post_logout_redirect_uri": {c.registered.PostLogoutRedirectURI},
		"state":                    {state},
	}
	return answer{"url": metadata.EndSession + "?" + hint.Encode()}, nil
}

func firstOf(all ...error) error {
	for _, err := range all {
		if err != nil {
			return err
		}
	}
	return nil
}
