// Package hosthttp lets a plugin use what is written against net/http: its client sends every request through the host, which decides what the
// plugin may reach. It is a package of its own because net/http makes a WebAssembly module larger by several megabytes;
// [sdk.HostAPI]'s HTTPRequest needs none of it.
package hosthttp

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"

	sdk "github.com/flowplug/flowplug/sdk/go"
)

// Client returns a client whose requests the host makes. ctx is that of a call of the plugin; a request with a context of its own, from
// http.NewRequestWithContext, is made in that one.
//
// The whole body of an answer is read before Do returns. A header that came several times is one, its values joined by commas.
func Client(ctx context.Context) *http.Client { return &http.Client{Transport: transport{ctx}} }

type transport struct{ ctx context.Context }

// RoundTrip hands one request to the host. Redirects are the client's, so that the host judges each.
func (t transport) RoundTrip(request *http.Request) (*http.Response, error) {
	asked := &sdk.HTTPRequest{Method: request.Method, URL: request.URL.String(), Headers: map[string]string{}}
	for name, values := range request.Header {
		asked.Headers[name] = strings.Join(values, ", ")
	}
	if request.Host != "" && request.Host != request.URL.Host {
		asked.Headers["Host"] = request.Host
	}
	if request.Body != nil {
		body, err := io.ReadAll(request.Body)
		_ = request.Body.Close()
		if err != nil {
			return nil, err
		}
		asked.Body = body
	}
	ctx := request.Context()
	if ctx == context.Background() {
		ctx = t.ctx
	}
	answer, err := sdk.Host(ctx).HTTPRequest(ctx, asked)
	if err != nil {
		return nil, err
	}
	response := &http.Response{
		Status:     fmt.Sprintf("%d %s", answer.Status, http.StatusText(answer.Status)),
		StatusCode: answer.Status,
		Proto:      "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header:        http.Header{},
		Body:          io.NopCloser(bytes.NewReader(answer.Body)),
		ContentLength: int64(len(answer.Body)),
		Request:       request,
	}
	for name, value := range answer.Headers {
		response.Header.Set(name, value)
	}
	return response, nil
}
