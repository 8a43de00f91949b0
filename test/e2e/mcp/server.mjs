// An MCP server with its authorization server, made of the official SDK: its auth router, its check of bearer tokens, its
// transport. What the SDK leaves to its users is here, in memory: clients, codes, and tokens that rotate. Usage: node server.mjs
// SDK PORT SECONDS, where SECONDS is how long an access token lives. Its answers to GET /seen are the headers of what was asked
// at /mcp.
import { randomUUID } from "node:crypto";
import { createRequire } from "node:module";

const [sdk, port, seconds] = process.argv.slice(2);
const from = (path) => import(`${sdk}/node_modules/@modelcontextprotocol/sdk/dist/esm/${path}`);
const { McpServer } = await from("server/mcp.js");
const { StreamableHTTPServerTransport } = await from("server/streamableHttp.js");
const { mcpAuthRouter, getOAuthProtectedResourceMetadataUrl } = await from("server/auth/router.js");
const { requireBearerAuth } = await from("server/auth/middleware/bearerAuth.js");
const { InvalidGrantError, InvalidTargetError, InvalidTokenError } = await from("server/auth/errors.js");
const express = createRequire(sdk + "/")("express");

const base = new URL(`http://localhost:${port}`);
const resource = new URL("/mcp", base);
const clients = new Map();
const codes = new Map();
const access = new Map();
const refresh = new Map();

const issue = (client, scopes, asked) => {
  if (asked?.href !== resource.href) throw new InvalidTargetError("this is not the resource");
  const grant = { clientId: client.client_id, scopes, resource: asked, expiresAt: Date.now() / 1000 + Number(seconds) };
  const tokens = { access_token: `fake-access-${randomUUID()}`, refresh_token: `fake-refresh-${randomUUID()}` };
  access.set(tokens.access_token, grant);
  refresh.set(tokens.refresh_token, grant);
  return { ...tokens, token_type: "bearer", expires_in: Number(seconds), scope: scopes.join(" ") };
};
const take = (map, key, client) => {
  const grant = map.get(key);
  map.delete(key);
  if (!grant || grant.clientId !== client.client_id) throw new InvalidGrantError("not known, or used before");
  return grant;
};
const provider = {
  clientsStore: {
    getClient: (id) => clients.get(id),
    registerClient: (client) => {
      clients.set(client.client_id, client);
      return client;
    },
  },
  async authorize(client, params, res) {
    const code = `fake-code-${randomUUID()}`;
    codes.set(code, { clientId: client.client_id, scopes: params.scopes ?? [], challenge: params.codeChallenge });
    const to = new URL(params.redirectUri);
    to.searchParams.set("code", code);
    to.searchParams.set("state", params.state);
    res.redirect(to.href);
  },
  async challengeForAuthorizationCode(client, code) {
    const known = codes.get(code);
    if (!known) throw new InvalidGrantError("not known");
    return known.challenge;
  },
  async exchangeAuthorizationCode(client, code, verifier, redirect, asked) {
    return issue(client, take(codes, code, client).scopes, asked);
  },
  async exchangeRefreshToken(client, token, scopes, asked) {
    return issue(client, take(refresh, token, client).scopes, asked);
  },
  async verifyAccessToken(token) {
    const grant = access.get(token);
    if (!grant) throw new InvalidTokenError("not known");
    return { token, ...grant };
  },
};

const app = express();
const seen = [];
app.get("/seen", (req, res) => res.json(seen));
app.use("/mcp", (req, res, next) => {
  res.on("finish", () => seen.push({ bearer: (req.headers.authorization ?? "").replace("Bearer ", ""), status: res.statusCode }));
  next();
});
app.use(mcpAuthRouter({
  provider, issuerUrl: base, resourceServerUrl: resource, scopesSupported: ["docs:read"],
  tokenOptions: { rateLimit: false }, clientRegistrationOptions: { rateLimit: false },
}));
const guard = requireBearerAuth({
  verifier: provider, requiredScopes: ["docs:read"], resourceMetadataUrl: getOAuthProtectedResourceMetadataUrl(resource),
  expectedResource: resource,
});
// Each request is one of its own (stateless), so that each shows its token.
app.post("/mcp", guard, express.json(), async (req, res) => {
  const server = new McpServer({ name: "docs", version: "1.0.0" });
  server.registerTool("greet", { description: "Greets" }, async () => ({
    content: [{ type: "text", text: "hello from the server" }],
  }));
  const transport = new StreamableHTTPServerTransport({ sessionIdGenerator: undefined });
  res.on("close", () => server.close());
  await server.connect(transport);
  await transport.handleRequest(req, res, req.body);
});
app.all("/mcp", guard, (req, res) => res.status(405).end());
app.listen(Number(port), "127.0.0.1", () => console.log("ready"));
