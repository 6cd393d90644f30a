// SPDX-License-Identifier: GPL-3.0-only

// Package providers stands in for flowbot's: who knows the way to which service's OAuth.
package providers

import "fmt"

// OAuthProvider has, in flowbot, GetAccessToken too, which takes its web framework's context and which plugins do not implement there.
type OAuthProvider interface {
	GetAuthorizeURL(state string) string
}

// OAuthProviderFactory makes one.
type OAuthProviderFactory func() OAuthProvider

var factories = map[string]OAuthProviderFactory{}

// RegisterOAuthProvider adds one, or replaces it.
func RegisterOAuthProvider(name string, factory OAuthProviderFactory) { factories[name] = factory }

// UnregisterOAuthProvider removes one.
func UnregisterOAuthProvider(name string) { delete(factories, name) }

// GetOAuthProvider makes the one of that name.
func GetOAuthProvider(name string) (OAuthProvider, error) {
	if factory, there := factories[name]; there {
		return factory(), nil
	}
	return nil, fmt.Errorf("no oauth provider %q", name)
}
