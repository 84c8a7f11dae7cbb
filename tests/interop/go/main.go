// Verifies tokens with go-oidc: `verify ISSUER AUDIENCE` reads one token per line, and writes one JSON document per
// line. Keys are found by discovery; the settings are those of docs/verifying.md.
package main

import (
	"bufio"
	"context"
	"encoding/base64"
	"encoding/json"
	"log"
	"os"
	"strings"

	"github.com/coreos/go-oidc/v3/oidc"
)

const longestToken = 64 * 1024

type judgement struct {
	Accepted bool   `json:"accepted"`
	Kid      string `json:"kid,omitempty"`
	Reason   string `json:"reason,omitempty"`
}

func main() {
	log.SetFlags(0)
	if len(os.Args) != 3 {
		log.Fatal("usage: verify ISSUER AUDIENCE")
	}
	ctx := context.Background()
	provider, err := oidc.NewProvider(ctx, os.Args[1])
	if err != nil {
		log.Fatal(err)
	}
	verifier := provider.Verifier(&oidc.Config{
		ClientID:             os.Args[2],
		SupportedSigningAlgs: []string{oidc.RS256},
	})
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, longestToken)
	answers := json.NewEncoder(os.Stdout)
	for lines.Scan() {
		if err := answers.Encode(judge(ctx, verifier, lines.Text())); err != nil {
			log.Fatal(err)
		}
	}
	if err := lines.Err(); err != nil {
		log.Fatal(err)
	}
}

func judge(ctx context.Context, verifier *oidc.IDTokenVerifier, token string) judgement {
	if _, err := verifier.Verify(ctx, token); err != nil {
		return judgement{Reason: err.Error()}
	}
	header, err := headerOf(token)
	if err != nil {
		return judgement{Reason: err.Error()}
	}
	if header.Typ != "at+jwt" {
		return judgement{Reason: "not an access token"}
	}
	return judgement{Accepted: true, Kid: header.Kid}
}

type members struct {
	Kid string `json:"kid"`
	Typ string `json:"typ"`
}

// headerOf reads the header, which the library does not hand out, of a token that is verified already.
func headerOf(token string) (header members, err error) {
	segment, _, _ := strings.Cut(token, ".")
	text, err := base64.RawURLEncoding.DecodeString(segment)
	if err != nil {
		return header, err
	}
	err = json.Unmarshal(text, &header)
	return header, err
}
