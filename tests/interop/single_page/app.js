// A single-page application that signs in with oidc-client-ts; `web_applications.py` serves it and its settings. The
// browser and the expected results are in test_sign_in_to_applications.py.

const manager = fetch('/settings.json')
  .then((answer) => answer.json())
  .then(
    (settings) =>
      new oidc.UserManager({
        ...settings,
        redirect_uri: `${location.origin}/callback`,
        post_logout_redirect_uri: `${location.origin}/signed-out`,
        response_type: 'code',
        loadUserInfo: true,
        automaticSilentRenew: false,
      }),
  )

function show(value) {
  document.querySelector('pre').textContent = JSON.stringify(value)
}

async function start() {
  if (location.pathname === '/callback') show(await (await manager).signinCallback())
  if (location.pathname === '/signed-out') show((await (await manager).signoutCallback()) ?? null)
}

document.querySelector('button').onclick = async () => (await manager).signinRedirect()
start().catch((error) => show({ error: String(error) }))
