# The session protocol's side of the web server: a block of variables, and a body.
module HatcheryLoader
  # The web server went in the middle of something.
  class ClientGone < EOFError; end
  # Bytes that are no request.
  class BadRequest < StandardError; end

  # One connection: a socket, and what was read from it and not yet used.
  class Connection
    READ = 16_384
    LONGEST_BLOCK = 1_048_576
    # With fewer, a block's variables are put into a hash by one call.
    MANY = 400

    attr_reader :io

    def initialize(io)
      @io = io
      @buffer = String.new
      @piece = String.new
    end

    # Reads what is there without waiting for more. False at the end.
    def fill
      piece = @io.read_nonblock(READ, @piece, exception: false)
      return true if piece == :wait_readable
      return false if piece.nil?
      take(piece)
      true
    rescue SystemCallError
      false
    end

    # The variables of a request that is there as a whole, or nil.
    def block
      colon = @buffer.index(':')
      if colon.nil?
        raise BadRequest, 'no length' if @buffer.bytesize > 7
        return nil
      end
      digits = @buffer.byteslice(0, colon)
      length = digits.to_i
      raise BadRequest, 'a bad length' unless digits.match?(/\A\d{1,7}\z/) && length <= LONGEST_BLOCK
      size = @buffer.bytesize
      finish = colon + 1 + length
      return nil if size <= finish
      raise BadRequest, 'a block without an end' unless @buffer.getbyte(finish) == 44
      content = @buffer.byteslice(colon + 1, length)
      @buffer = size == finish + 1 ? String.new : @buffer.byteslice(finish + 1, size)
      content
    end

    def self.variables(content)
      pairs = content.split("\0", -1)
      raise BadRequest, 'a variable without a value' unless pairs.pop == '' && pairs.size.even?
      pairs.size < MANY ? Hash[*pairs] : Hash[pairs.each_slice(2).to_a]
    end

    # At most `length` bytes of what follows; waits for at least one.
    def some(length)
      wait_for_more if @buffer.empty?
      return @buffer.slice!(0, length) if @buffer.bytesize > length
      piece = @buffer
      @buffer = String.new
      piece
    end

    # A line without its end.
    def line(longest)
      until (finish = @buffer.index("\n"))
        raise BadRequest, 'a line without an end' if @buffer.bytesize > longest
        wait_for_more
      end
      @buffer.slice!(0, finish + 1).chomp
    end

    # What was read too much, for whoever takes the socket over.
    def give_back
      @io.ungetbyte(@buffer) unless @buffer.empty?
      @buffer = String.new
      @io
    end

    def close
      @io.close
    rescue SystemCallError
      nil # It is closed for this process all the same.
    end

    private

    def take(piece)
      if @buffer.empty?
        @buffer, @piece = piece, @buffer
      else
        @buffer << piece
      end
    end

    def wait_for_more
      take(@io.readpartial(READ, @piece))
    rescue EOFError, SystemCallError
      raise ClientGone, 'the web server went before the whole request was there'
    end
  end

  # A request's body as it comes, of known length.
  class Body
    attr_reader :left

    def initialize(connection, length)
      @connection = connection
      @left = length
    end

    # At most `longest` bytes, nil at the end.
    def some(longest)
      return nil if @left.zero?
      piece = @connection.some(longest < @left ? longest : @left)
      @left -= piece.bytesize
      piece
    end
  end

  # The same in chunks.
  class ChunkedBody
    LONGEST_LINE = 8192

    def initialize(connection)
      @connection = connection
      @left = 0
      @over = false
    end

    def some(longest)
      return nil if @over
      next_chunk if @left.zero?
      return nil if @over
      piece = @connection.some(longest < @left ? longest : @left)
      @left -= piece.bytesize
      expect_end if @left.zero?
      piece
    end

    private

    def next_chunk
      size = @connection.line(LONGEST_LINE).sub(/[ \t]*(;.*)?\z/m, '')
      raise BadRequest, 'a bad chunk length' unless size.match?(/\A\h{1,15}\z/)
      @left = size.to_i(16)
      return unless @left.zero?
      100.times { return @over = true if @connection.line(LONGEST_LINE).empty? }
      raise BadRequest, 'too many trailers'
    end

    def expect_end
      raise BadRequest, 'a chunk without an end' unless @connection.line(2).empty?
    end
  end

  # rack.input: read as the app asks for it. It can't be rewound, which rack 3 doesn't ask for.
  class Input
    PIECE = 65_536

    def initialize(body)
      @body = body
      @rest = nil
    end

    attr_reader :body

    def read(length = nil, buffer = nil)
      result = length ? exactly(length) : all
      return result unless buffer
      result ? buffer.replace(result) : buffer.clear
      result && buffer
    end

    def gets
      line = nil
      while (piece = part(PIECE))
        finish = piece.index("\n")
        line = line ? line << piece : piece
        next unless finish
        finish += line.bytesize - piece.bytesize unless line.equal?(piece)
        keep(line.slice!(finish + 1, line.bytesize)) if line.bytesize > finish + 1
        return line
      end
      line
    end

    def each
      return enum_for(:each) unless block_given?
      while (line = gets)
        yield line
      end
      self
    end

    def close
      nil # What is left is read, or the connection closed, once the answer is there.
    end

    private

    def all
      result = String.new
      while (piece = part(PIECE))
        result << piece
      end
      result
    end

    def exactly(length)
      raise ArgumentError, "negative length #{length} given" if length.negative?
      return String.new if length.zero?
      result = part(length)
      while result && result.bytesize < length && (piece = part(length - result.bytesize))
        result << piece
      end
      result
    end

    def part(longest)
      return @body.some(longest) unless @rest
      piece = @rest.bytesize > longest ? @rest.slice!(0, longest) : @rest
      @rest = nil if piece.equal?(@rest)
      piece
    end

    def keep(rest)
      @rest = rest
    end
  end

  # rack.input of rack 2, which can be rewound: the body is kept, in memory or in a file without a name, as soon as
  # somebody wants to see it.
  class RewindableInput
    IN_MEMORY = 262_144

    def initialize(body)
      @body = body
      @spool = nil
    end

    attr_reader :body

    def read(*arguments)
      spool.read(*arguments)
    end

    def gets
      spool.gets
    end

    def each(&block)
      return enum_for(:each) unless block
      spool.each(&block)
      self
    end

    def rewind
      spool.rewind
    end

    def size
      spool.size
    end

    def discard
      @spool.close if @spool
    end

    private

    def spool
      @spool ||= fill
    end

    def fill
      spool = StringIO.new(String.new)
      while (piece = @body.some(Input::PIECE))
        spool = into_file(spool) if spool.is_a?(StringIO) && spool.size + piece.bytesize > IN_MEMORY
        spool.write(piece)
      end
      spool.rewind
      spool
    end

    def into_file(memory)
      require 'tempfile'
      file = Tempfile.create('request-body')
      File.unlink(file.path)
      file.binmode
      file.write(memory.string)
      file
    end
  end
end
