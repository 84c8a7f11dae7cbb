// Owns what go-oidc says of an issuer's tokens: `verify ISSUER AUDIENCE`, then one token a line in, one JSON
// line out. The keys are found by discovery, and the library keeps its defaults.
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
	verifier := provider.Verifier(&oidc.Config{ClientID: os.Args[2]})
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
	kid, err := kidOf(token)
	if err != nil {
		return judgement{Reason: err.Error()}
	}
	return judgement{Accepted: true, Kid: kid}
}

// kidOf reads the header, which the library does not hand out, of a token that is verified already.
func kidOf(token string) (string, error) {
	header, _, _ := strings.Cut(token, ".")
	text, err := base64.RawURLEncoding.DecodeString(header)
	if err != nil {
		return "", err
	}
	var members struct {
		Kid string `json:"kid"`
	}
	err = json.Unmarshal(text, &members)
	return members.Kid, err
}
