# One request and its answer: what the app is given, and what becomes of what it returns or raises.
module HatcheryLoader
  # One request, from its variables to what becomes of its connection.
  class Exchange
    # So much of a body that the app did not read is read for it; for more the connection is closed.
    MOST_LEFT = 65_536
    FAILED = "HTTP/1.1 500 Internal Server Error\r\nContent-Type: text/plain\r\nContent-Length: 39\r\n" \
             "Connection: close\r\n\r\nThe application failed to answer this.\n"
    BAD = "HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    HERE = "HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n"

    def self.refuse(connection)
      connection.io.write(BAD)
      :close
    rescue SystemCallError
      :close # Whoever sent that is gone already.
    end

    def initialize(server, connection)
      @server, @connection = server, connection
      @taken = false
    end

    # What becomes of the connection: `:keep`, `:close`, or `:taken` by the app.

    def run(content)
      if content.empty?
        @connection.io.write(HERE)
        return :close
      end
      @env = Connection.variables(content)
      answer
    rescue BadRequest => error
      warn "hatchery: #{where} is not understood: #{error.message}"
      @answer && @answer.begun ? :close : Exchange.refuse(@connection)
    rescue ClientGone => error
      warn "hatchery: #{where} was given up: #{error.message}"
      :close
    end

    private

    def where
      @env ? "#{@env['REQUEST_METHOD']} #{@env['REQUEST_URI']}" : 'a request'
    end

    def answer
      prepare
      @answer = Answer.new(@connection, @env, @input)
      fate = call_app
      return fate unless fate == :keep
      drained? ? :keep : :close
    ensure
      @input.discard if @input.is_a?(RewindableInput)
    end

    # How it went is asked for by apps of rack 3 through `rack.response_finished`.
    def call_app
      status, headers, body = @server.app.call(@env)
      @taken ? :taken : @answer.send(status, headers, body)
    rescue SignalException, SystemExit, ClientGone, BadRequest => error
      raise
    rescue Exception => error
      failed(error)
    ensure
      close_body(body) unless @taken
      finished(status, headers, error) if @server.modern
    end

    def failed(error)
      $stderr.puts("hatchery: #{where} failed:")
      HatcheryLoader.print_error(error)
      return :taken if @taken
      @connection.io.write(FAILED) unless @answer.begun
      :close
    rescue SystemCallError
      :close # The web server went as well; there is nobody to tell.
    end

    def close_body(body)
      body.close if body.respond_to?(:close)
    rescue StandardError => error
      HatcheryLoader.print_error(error)
    end

    def finished(status, headers, error)
      @env['rack.response_finished'].reverse_each { |each| each.call(@env, status, headers, error) }
    rescue StandardError => broken
      HatcheryLoader.print_error(broken)
    end

    def drained?
      body = @input.body
      return false if body.is_a?(Body) && body.left > MOST_LEFT
      most = MOST_LEFT
      while (piece = body.some(16_384))
        most -= piece.bytesize
        return false if most.negative?
      end
      true
    rescue BadRequest, ClientGone
      false
    end

    def prepare
      env = @env
      @input = @server.input.new(body)
      path_as_sent if env['REQUEST_URI'].to_s.include?('%')
      env['rack.url_scheme'] = env['HTTPS'] == 'on' ? 'https' : 'http'
      env['rack.input'] = @input
      env['rack.errors'] = $stderr
      env['rack.hijack?'] = true
      env['rack.hijack'] = method(:hijack).to_proc
      env['rack.response_finished'] = [] if @server.modern
      env.update(@server.constants)
    end

    def body
      if (length = @env['CONTENT_LENGTH']) && !length.empty?
        raise BadRequest, 'a bad length' unless length.match?(/\A\d{1,18}\z/)
        Body.new(@connection, length.to_i)
      elsif @env['HTTP_TRANSFER_ENCODING'].to_s.casecmp?('chunked')
        ChunkedBody.new(@connection)
      else
        Nothing
      end
    end

    # Ruby's servers and frameworks agree that PATH_INFO is what was sent; routers decode it themselves.
    def path_as_sent
      path = @env['REQUEST_URI'][/\A[^?#]*/].sub(%r{\A[a-z][a-z0-9+.-]*://[^/]*}i, '')
      script = @env['SCRIPT_NAME'].to_s
      return unless path.start_with?("#{script}/") || path == script
      @env['PATH_INFO'] = path.byteslice(script.bytesize, path.bytesize)
    end

    def hijack
      @taken = true
      @env['rack.hijack_io'] ||= @connection.give_back
    end
  end

  # The body of a request that has none.
  module Nothing
    def self.some(_longest)
      nil
    end
  end
end
