// Verifies tokens with Spring Security: `Verify ISSUER AUDIENCE [SECONDS]` reads one token per line, and writes one JSON
// document per line. The settings are those of docs/verifying.md; SECONDS sets a shorter cache lifetime than the 5
// minutes of `withJwkSetUri`, in the same cache of Nimbus.

import com.nimbusds.jose.jwk.source.JWKSourceBuilder;
import com.nimbusds.jose.proc.SecurityContext;
import com.nimbusds.jose.util.JSONObjectUtils;
import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.net.MalformedURLException;
import java.net.URI;
import java.time.Duration;
import java.util.Map;
import java.util.Objects;
import org.springframework.security.oauth2.core.OAuth2TokenValidator;
import org.springframework.security.oauth2.jose.jws.SignatureAlgorithm;
import org.springframework.security.oauth2.jwt.Jwt;
import org.springframework.security.oauth2.jwt.JwtClaimValidator;
import org.springframework.security.oauth2.jwt.JwtDecoder;
import org.springframework.security.oauth2.jwt.JwtException;
import org.springframework.security.oauth2.jwt.JwtTimestampValidator;
import org.springframework.security.oauth2.jwt.JwtValidators;
import org.springframework.security.oauth2.jwt.NimbusJwtDecoder;

public final class Verify {
    private static final long FETCH_MILLIS = 1000;

    private Verify() {}

    static JwtDecoder jwtDecoder(String issuer, String audience) {
        NimbusJwtDecoder decoder = NimbusJwtDecoder
                .withJwkSetUri(issuer + "/.well-known/jwks.json")
                .jwsAlgorithm(SignatureAlgorithm.RS256)
                .validateType(false)
                .build();
        decoder.setJwtValidator(accessToken(issuer, audience));
        return decoder;
    }

    static OAuth2TokenValidator<Jwt> accessToken(String issuer, String audience) {
        JwtTimestampValidator lifetime = new JwtTimestampValidator(Duration.ofSeconds(10));
        lifetime.setAllowEmptyExpiryClaim(false);
        return JwtValidators.createAtJwtValidator()
                .issuer(issuer)
                .audience(audience)
                .validators((all) -> {
                    all.put("client_id", new JwtClaimValidator<>("client_id", Objects::nonNull));
                    all.put("exp", lifetime);
                })
                .build();
    }

    static JwtDecoder jwtDecoder(String issuer, String audience, long seconds) throws MalformedURLException {
        var keys = JWKSourceBuilder
                .<SecurityContext>create(URI.create(issuer + "/.well-known/jwks.json").toURL())
                .refreshAheadCache(false)
                .rateLimited(false)
                .cache(seconds * 1000, FETCH_MILLIS)
                .build();
        NimbusJwtDecoder decoder = NimbusJwtDecoder
                .withJwkSource(keys)
                .jwsAlgorithm(SignatureAlgorithm.RS256)
                .jwtProcessorCustomizer((processor) -> processor.setJWSTypeVerifier((type, context) -> {}))
                .build();
        decoder.setJwtValidator(accessToken(issuer, audience));
        return decoder;
    }

    static Map<String, Object> judge(JwtDecoder decoder, String token) {
        try {
            return Map.of("accepted", true, "kid", decoder.decode(token).getHeaders().get("kid"));
        } catch (JwtException refusal) {
            return Map.of("accepted", false, "reason", String.valueOf(refusal.getMessage()));
        }
    }

    public static void main(String[] arguments) throws Exception {
        JwtDecoder decoder = arguments.length < 3
                ? jwtDecoder(arguments[0], arguments[1])
                : jwtDecoder(arguments[0], arguments[1], Long.parseLong(arguments[2]));
        var tokens = new BufferedReader(new InputStreamReader(System.in));
        for (String token = tokens.readLine(); token != null; token = tokens.readLine()) {
            System.out.println(JSONObjectUtils.toJSONString(judge(decoder, token)));
        }
    }
}
