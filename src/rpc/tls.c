/* SPDX-License-Identifier: Apache-2.0 */
/*
 * TLS over memory: ciphertext in, plain bytes out, and the reverse. No sockets here; conn.c moves
 * the bytes.
 *
 * TLS 1.2 and later, ALPN h2 before http/1.1, no renegotiation. A context with a CA on the server
 * side demands a client certificate (mTLS). A client checks the chain and that the certificate
 * names the host it asked for. OpenSSL gives idle connections' record buffers back
 * (SSL_MODE_RELEASE_BUFFERS).
 */
#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <stdio.h>

#include "rpc/loop_private.h"

struct rk__tls_context {
    SSL_CTX *ctx;
    bool server;
};

struct rk__tls {
    SSL *ssl;
    BIO *in;  /* owned by ssl */
    BIO *out; /* owned by ssl */
    bool ready;
    bool broken;
    char error[160];
};

static const uint8_t alpn_offer[] = "\x02h2\x08http/1.1";
#define OUT_KEEP_BYTES ((size_t)32 << 10)
#define ALPN_OFFER_LEN (sizeof(alpn_offer) - 1)

static void
last_error(char *out, size_t cap)
{
    unsigned long code = ERR_peek_last_error();

    if (code) {
        ERR_error_string_n(code, out, cap);
    } else {
        snprintf(out, cap, "no reason given");
    }
    ERR_clear_error();
}

/* The first error of those queued up: the cause, of which the others are what it led to. */
static const char *
first_error(char *out, size_t cap)
{
    unsigned long code = ERR_peek_error();
    const char *reason = ERR_reason_error_string(code);

    if (ERR_SYSTEM_ERROR(code)) {
        reason = strerrordesc_np(ERR_GET_REASON(code));
    }
    if (code && reason) {
        snprintf(out, cap, "%s", reason);
    } else if (code) {
        ERR_error_string_n(code, out, cap);
    } else {
        snprintf(out, cap, "no reason given");
    }
    ERR_clear_error();
    return out;
}

static rk_code
tls_fail(rk_err *err, const char *what, const char *path)
{
    char text[160];

    return rk_fail(err, RK_EINVAL, "TLS: %s %s: %s", what, path, first_error(text, sizeof(text)));
}

static int
select_alpn(SSL *ssl, const unsigned char **out, unsigned char *out_len, const unsigned char *in,
            unsigned in_len, void *arg)
{
    unsigned char *chosen = NULL;

    RK_UNUSED(ssl);
    RK_UNUSED(arg);
    if (SSL_select_next_proto(&chosen, out_len, alpn_offer, ALPN_OFFER_LEN, in, in_len) !=
        OPENSSL_NPN_NEGOTIATED) {
        return SSL_TLSEXT_ERR_ALERT_FATAL;
    }
    *out = chosen;
    return SSL_TLSEXT_ERR_OK;
}

static rk_code
context_new(rk__tls_context **out, bool server, rk_err *err)
{
    rk__tls_context *context = rk_alloc_zero(1, sizeof(*context));

    *out = NULL;
    if (!context) {
        return rk_fail(err, RK_ENOMEM, "no memory for a TLS context");
    }
    context->server = server;
    context->ctx = SSL_CTX_new(server ? TLS_server_method() : TLS_client_method());
    if (!context->ctx) {
        rk_free(context);
        return tls_fail(err, "cannot create", "a context");
    }
    SSL_CTX_set_min_proto_version(context->ctx, TLS1_2_VERSION);
    SSL_CTX_set_options(context->ctx, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION |
                                          SSL_OP_CIPHER_SERVER_PREFERENCE |
                                          SSL_OP_IGNORE_UNEXPECTED_EOF);
    SSL_CTX_set_mode(context->ctx, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    *out = context;
    return RK_OK;
}

/* A key that asks for a passphrase: there is nobody to ask, least of all at a terminal. */
static int
no_passphrase(char *out, int cap, int writing, void *user)
{
    bool *asked = user;

    RK_UNUSED(out);
    RK_UNUSED(cap);
    RK_UNUSED(writing);
    *asked = true;
    return -1;
}

static bool
is_error(unsigned long code, int library, int reason)
{
    return ERR_GET_LIB(code) == library && ERR_GET_REASON(code) == reason;
}

/* A file of certificates that OpenSSL refused. */
static rk_code
certificate_fail(rk_err *err, const char *what, const char *path)
{
    unsigned long code = ERR_peek_error();

    if (is_error(code, ERR_LIB_PEM, PEM_R_NO_START_LINE) ||
        is_error(code, ERR_LIB_X509, X509_R_NO_CERTIFICATE_OR_CRL_FOUND)) {
        ERR_clear_error();
        return rk_fail(err, RK_EINVAL, "TLS: the file of %s, %s, holds no certificate in PEM form",
                       what, path);
    }
    return tls_fail(err, "cannot read", path);
}

static rk_code
key_fail(rk_err *err, const char *cert_path, const char *key_path, bool passphrase)
{
    unsigned long code = ERR_peek_error();

    if (passphrase) {
        ERR_clear_error();
        return rk_fail(err, RK_EINVAL,
                       "TLS: the private key %s is encrypted, want one without a passphrase",
                       key_path);
    }
    if (is_error(code, ERR_LIB_X509, X509_R_KEY_VALUES_MISMATCH) ||
        is_error(code, ERR_LIB_X509, X509_R_KEY_TYPE_MISMATCH)) {
        ERR_clear_error();
        return rk_fail(err, RK_EINVAL,
                       "TLS: the private key %s does not belong to the first certificate of %s",
                       key_path, cert_path);
    }
    return tls_fail(err, "no private key in PEM form could be read from", key_path);
}

static rk_code
use_identity(rk__tls_context *context, const char *cert_path, const char *key_path, rk_err *err)
{
    bool passphrase = false;
    bool used;

    ERR_clear_error();
    if (SSL_CTX_use_certificate_chain_file(context->ctx, cert_path) != 1) {
        return certificate_fail(err, "the certificate chain", cert_path);
    }
    if (!key_path) {
        return rk_fail(err, RK_EINVAL, "TLS: the certificate %s comes without a private key",
                       cert_path);
    }
    SSL_CTX_set_default_passwd_cb(context->ctx, no_passphrase);
    SSL_CTX_set_default_passwd_cb_userdata(context->ctx, &passphrase);
    used = SSL_CTX_use_PrivateKey_file(context->ctx, key_path, SSL_FILETYPE_PEM) == 1 &&
           SSL_CTX_check_private_key(context->ctx) == 1;
    SSL_CTX_set_default_passwd_cb(context->ctx, NULL);
    SSL_CTX_set_default_passwd_cb_userdata(context->ctx, NULL);
    return used ? RK_OK : key_fail(err, cert_path, key_path, passphrase);
}

rk_code
rk__tls_server_context(rk__tls_context **out, const rk_tls_options *options, rk_err *err)
{
    rk__tls_context *context = NULL;
    rk_code code = RK_OK;

    *out = NULL;
    RK_ERR(context_new(&context, true, err));
    RK_ERR(use_identity(context, options->cert_pem_path, options->key_pem_path, err));
    if (options->ca_pem_path) {
        STACK_OF(X509_NAME) * names;
        if (SSL_CTX_load_verify_locations(context->ctx, options->ca_pem_path, NULL) != 1) {
            RK_ERR(certificate_fail(err, "the authorities of clients", options->ca_pem_path));
        }
        names = SSL_load_client_CA_file(options->ca_pem_path);
        if (names) {
            SSL_CTX_set_client_CA_list(context->ctx, names);
        }
        SSL_CTX_set_verify(context->ctx, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
        SSL_CTX_set_session_id_context(context->ctx, (const unsigned char *)"redkite", 7);
    }
    SSL_CTX_set_alpn_select_cb(context->ctx, select_alpn, NULL);
    *out = context;
    context = NULL;
out:
    rk__tls_context_free(context);
    return code;
}

rk_code
rk__tls_client_context(rk__tls_context **out, const char *ca_path, const char *cert_path,
                       const char *key_path, rk_err *err)
{
    rk__tls_context *context = NULL;
    rk_code code = RK_OK;

    *out = NULL;
    RK_ERR(context_new(&context, false, err));
    if (ca_path) {
        if (SSL_CTX_load_verify_locations(context->ctx, ca_path, NULL) != 1) {
            RK_ERR(certificate_fail(err, "the authorities", ca_path));
        }
    } else if (SSL_CTX_set_default_verify_paths(context->ctx) != 1) {
        RK_ERR(tls_fail(err, "cannot read", "the system's root certificates"));
    }
    if (cert_path) {
        RK_ERR(use_identity(context, cert_path, key_path, err));
    }
    SSL_CTX_set_verify(context->ctx, SSL_VERIFY_PEER, NULL);
    SSL_CTX_set_alpn_protos(context->ctx, (const unsigned char *)"\x02h2", 3);
    *out = context;
    context = NULL;
out:
    rk__tls_context_free(context);
    return code;
}

void
rk__tls_context_free(rk__tls_context *context)
{
    if (context) {
        SSL_CTX_free(context->ctx);
        rk_free(context);
    }
}

/* The certificate must name |host|, an address or a DNS name. */
static bool
expect_host(SSL *ssl, const char *host)
{
    unsigned char ip[16];
    bool is_ip = uv_inet_pton(AF_INET, host, ip) == 0 || uv_inet_pton(AF_INET6, host, ip) == 0;

    if (is_ip) {
        return X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(ssl), host) == 1;
    }
    SSL_set_hostflags(ssl, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
    return SSL_set1_host(ssl, host) == 1 &&
           SSL_ctrl(ssl, SSL_CTRL_SET_TLSEXT_HOSTNAME, TLSEXT_NAMETYPE_host_name,
                    (void *)(uintptr_t)host) == 1;
}

rk_code
rk__tls_new(rk__tls **out, rk__tls_context *context, const char *host)
{
    rk__tls *tls = rk_alloc_zero(1, sizeof(*tls));

    *out = NULL;
    if (!tls) {
        return RK_ENOMEM;
    }
    tls->ssl = SSL_new(context->ctx);
    tls->in = BIO_new(BIO_s_mem());
    tls->out = BIO_new(BIO_s_mem());
    if (!tls->ssl || !tls->in || !tls->out || (host && !expect_host(tls->ssl, host))) {
        BIO_free(tls->in);
        BIO_free(tls->out);
        SSL_free(tls->ssl);
        rk_free(tls);
        ERR_clear_error();
        return RK_ENOMEM;
    }
    BIO_set_mem_eof_return(tls->in, -1);
    SSL_set_bio(tls->ssl, tls->in, tls->out);
    if (context->server) {
        SSL_set_accept_state(tls->ssl);
    } else {
        SSL_set_connect_state(tls->ssl);
    }
    *out = tls;
    return RK_OK;
}

void
rk__tls_free(rk__tls *tls)
{
    if (tls) {
        SSL_free(tls->ssl);
        rk_free(tls);
    }
}

bool
rk__tls_ready(const rk__tls *tls)
{
    return tls->ready;
}

rk_str
rk__tls_alpn(const rk__tls *tls)
{
    const unsigned char *name = NULL;
    unsigned len = 0;

    SSL_get0_alpn_selected(tls->ssl, &name, &len);
    return (rk_str){(const char *)name, len};
}

bool
rk__tls_add(rk__tls *tls, const uint8_t *data, size_t len)
{
    return len <= INT32_MAX && BIO_write(tls->in, data, (int)len) == (int)len;
}

static int
tls_broken(rk__tls *tls)
{
    long verify = SSL_get_verify_result(tls->ssl);

    if (verify != X509_V_OK) {
        snprintf(tls->error, sizeof(tls->error), "certificate check failed: %s",
                 X509_verify_cert_error_string(verify));
        ERR_clear_error();
    } else {
        last_error(tls->error, sizeof(tls->error));
    }
    tls->broken = true;
    return -1;
}

int
rk__tls_read(rk__tls *tls, uint8_t *out, size_t cap)
{
    int rc;
    int reason;

    if (tls->broken) {
        return -1;
    }
    ERR_clear_error();
    if (!tls->ready) {
        rc = SSL_do_handshake(tls->ssl);
        if (rc != 1) {
            reason = SSL_get_error(tls->ssl, rc);
            return reason == SSL_ERROR_WANT_READ || reason == SSL_ERROR_WANT_WRITE
                       ? 0
                       : tls_broken(tls);
        }
        tls->ready = true;
    }
    rc = SSL_read(tls->ssl, out, (int)RK_MIN(cap, (size_t)INT32_MAX));
    if (rc > 0) {
        return rc;
    }
    reason = SSL_get_error(tls->ssl, rc);
    if (reason == SSL_ERROR_WANT_READ || reason == SSL_ERROR_WANT_WRITE) {
        return 0;
    }
    if (reason == SSL_ERROR_ZERO_RETURN) {
        return -1; /* a proper end: our own close_notify may follow */
    }
    return tls_broken(tls);
}

bool
rk__tls_write(rk__tls *tls, const void *data, size_t len)
{
    ERR_clear_error();
    while (len > 0 && !tls->broken) {
        size_t written = 0;
        if (SSL_write_ex(tls->ssl, data, len, &written) != 1) {
            tls_broken(tls);
            break;
        }
        data = (const uint8_t *)data + written;
        len -= written;
    }
    return !tls->broken;
}

rk_str
rk__tls_pending(const rk__tls *tls)
{
    char *data = NULL;
    long len = BIO_get_mem_data(tls->out, &data);

    return (rk_str){data, len > 0 ? (size_t)len : 0};
}

void
rk__tls_sent(rk__tls *tls, size_t len)
{
    BIO *fresh;

    /* All of it: what the socket did not take was copied. A large reply's buffer is not kept. */
    if (len > OUT_KEEP_BYTES && (fresh = BIO_new(BIO_s_mem()))) {
        tls->out = fresh;
        SSL_set0_wbio(tls->ssl, fresh);
    } else {
        (void)BIO_reset(tls->out);
    }
}

const char *
rk__tls_error(const rk__tls *tls)
{
    return tls->error;
}
