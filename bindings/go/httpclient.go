package flowplug

import (
	"context"
	"net/http"
)

// HTTPClient returns a client for [HostAPI.HTTPRequest]: it asks the plugin's allowlist before
// every request it sends, redirects included, and refuses with [ErrPermissionDenied]. ctx is the one
// that the method was given; when the method has returned, and with any other context, the client
// refuses everything. Connections are those of [http.DefaultTransport]; give the request ctx too.
func HTTPClient(ctx context.Context) *http.Client {
	return &http.Client{Transport: &checkedTransport{call: hostCallFrom(ctx), next: http.DefaultTransport}}
}

type checkedTransport struct {
	call *hostCall
	next http.RoundTripper
}

// RoundTrip checks here, not in CheckRedirect, so that a caller who sets that keeps the check.
func (t *checkedTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	if err := t.check(r.URL.String()); err != nil {
		if r.Body != nil {
			_ = r.Body.Close()
		}
		return nil, err
	}
	return t.next.RoundTrip(r)
}

func (t *checkedTransport) check(url string) error {
	if t.call == nil || t.call.request == 0 || !t.call.open.Load() {
		return &Error{
			Status:  StatusPermissionDenied,
			Message: "The client sends requests only inside of HTTPRequest: give HTTPClient the context that the method was given.",
		}
	}
	return libHTTPCheck(t.call.request, url)
}
