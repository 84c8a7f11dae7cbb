// A web application that signs in with Spring Boot's OAuth client: `java interop.Application` with the settings of
// `spring.security.oauth2.client` in its environment. Endpoints and keys are found by discovery.

package interop;

import java.time.Duration;
import java.util.Map;
import org.springframework.boot.SpringApplication;
import org.springframework.boot.autoconfigure.SpringBootApplication;
import org.springframework.context.annotation.Bean;
import org.springframework.security.config.annotation.web.builders.HttpSecurity;
import org.springframework.security.core.annotation.AuthenticationPrincipal;
import org.springframework.security.oauth2.client.OAuth2AuthorizedClient;
import org.springframework.security.oauth2.client.OAuth2AuthorizedClientManager;
import org.springframework.security.oauth2.client.OAuth2AuthorizedClientProviderBuilder;
import org.springframework.security.oauth2.client.annotation.RegisteredOAuth2AuthorizedClient;
import org.springframework.security.oauth2.client.oidc.web.logout.OidcClientInitiatedLogoutSuccessHandler;
import org.springframework.security.oauth2.client.registration.ClientRegistrationRepository;
import org.springframework.security.oauth2.client.web.DefaultOAuth2AuthorizedClientManager;
import org.springframework.security.oauth2.client.web.OAuth2AuthorizedClientRepository;
import org.springframework.security.oauth2.core.oidc.user.OidcUser;
import org.springframework.security.web.SecurityFilterChain;
import org.springframework.web.bind.annotation.GetMapping;
import org.springframework.web.bind.annotation.RestController;

@SpringBootApplication
@RestController
public class Application {
  public static void main(String[] arguments) {
    SpringApplication.run(Application.class, arguments);
  }

  @Bean
  SecurityFilterChain security(HttpSecurity http, ClientRegistrationRepository clients) throws Exception {
    var signsOut = new OidcClientInitiatedLogoutSuccessHandler(clients);
    signsOut.setPostLogoutRedirectUri("{baseUrl}/signed-out");
    return http
        .authorizeHttpRequests(paths -> paths
            .requestMatchers("/signed-out").permitAll()
            .anyRequest().authenticated())
        .oauth2Login(settings -> {})
        .oidcLogout(settings -> settings.backChannel(each -> {}))
        .logout(settings -> settings.logoutSuccessHandler(signsOut))
        .build();
  }

  // Every access token counts as about to expire, so that each use of the client refreshes.
  @Bean
  OAuth2AuthorizedClientManager manager(
      ClientRegistrationRepository clients, OAuth2AuthorizedClientRepository authorized) {
    var manager = new DefaultOAuth2AuthorizedClientManager(clients, authorized);
    manager.setAuthorizedClientProvider(OAuth2AuthorizedClientProviderBuilder.builder()
        .authorizationCode()
        .refreshToken(each -> each.clockSkew(Duration.ofDays(1)))
        .build());
    return manager;
  }

  @GetMapping("/claims")
  Map<String, Object> claims(@AuthenticationPrincipal OidcUser user) {
    return Map.of("id_token", user.getIdToken().getClaims(), "userinfo", user.getUserInfo().getClaims());
  }

  @GetMapping("/refreshed")
  Map<String, Object> refreshed(@RegisteredOAuth2AuthorizedClient("issuer") OAuth2AuthorizedClient client) {
    return Map.of(
        "access_token", client.getAccessToken().getTokenValue(),
        "refresh_token", client.getRefreshToken().getTokenValue());
  }

  @GetMapping("/signed-out")
  Map<String, Object> signedOut() {
    return Map.of();
  }
}
